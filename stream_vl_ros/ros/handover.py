"""From the engine's thread to the executor's."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

T = TypeVar("T")

_RclError = rclpy_implementation.RCLError


class Handover(Generic[T]):
    """Things that any thread puts in, and that are taken in order on the executor's thread: nobody else publishes."""

    def __init__(self, node: Node, take: Callable[[T], None], group: CallbackGroup | None = None) -> None:
        """Nothing is under way yet.

        Args:
            node: on whose executor things are taken.
            take: called with each of them.
            group: callback group of that; None is the node's own.
        """
        self._take = take
        self._waiting: deque[T] = deque()
        self._news = node.create_guard_condition(self.drain, callback_group=group)

    def put(self, thing: T) -> None:
        """Hand over; returns at once, from any thread."""
        self._waiting.append(thing)
        with contextlib.suppress(_RclError, ReferenceError):  # shut down meanwhile
            self._news.trigger()

    def drain(self) -> None:
        """Take what is there, on the executor's thread."""
        while self._waiting:
            self._take(self._waiting.popleft())
