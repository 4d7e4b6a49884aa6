"""Responses that many callers wait for, some milliseconds apart."""

from __future__ import annotations

import time
from collections import deque

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

BURST = 4
GAP = 0.02


class Pace:
    """Lets `BURST` responses of a service go at once, and any more of them `GAP` seconds apart.

    All clients of a ROS 2 service read one response topic, and each keeps the last 10 of it unless it asks for more. A
    client that does not run for a moment while 10 others are answered never sees its own response.

    The rule is the virtual scheduling of the generic cell rate algorithm (ITU-T I.371).
    """

    def __init__(self, node: Node, group: CallbackGroup) -> None:
        """Nothing waits yet. `group` is that of the timer."""
        self._node = node
        self._next = 0.0
        self._waiting: deque[tuple[float, Future]] = deque()  # in the order of their times
        # Simulated time may stand still.
        self._timer = node.create_timer(
            GAP, self._let_go, callback_group=group, clock=Clock(clock_type=ClockType.STEADY_TIME), autostart=False
        )

    async def turn(self) -> None:
        """Wait until a response may go; on the executor's thread."""
        now = time.monotonic()
        due = max(self._next, now - BURST * GAP + GAP)
        self._next = due + GAP
        if due <= now:
            return
        turn = Future()
        self._waiting.append((due, turn))
        if self._timer.is_canceled():
            self._timer.reset()
        await turn

    def _let_go(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[1].set_result(None)
        if not self._waiting:
            self._timer.cancel()
        # Setting a result does not wake the executor by itself.
        if self._node.executor is not None:
            self._node.executor.wake()
