"""Futures of the engine's thread, for coroutines on rclpy's executor."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from rclpy.node import Node
from rclpy.task import Future as RosFuture

from stream_vl_ros.errors import RequestError


def awaitable(node: Node, future: Future[Any]) -> RosFuture:
    """A future of the engine's thread as one that the node's executor can await.

    One that was cancelled raises `RequestError`.
    """
    awaited = RosFuture()

    def done(finished: Future[Any]) -> None:
        if finished.cancelled():
            awaited.set_exception(RequestError("cancelled by the caller"))
        elif (error := finished.exception()) is not None:
            awaited.set_exception(error)
            awaited.exception()  # it is no surprise, also if nobody is left to await it
        else:
            awaited.set_result(finished.result())
        # Setting a result does not wake the executor by itself.
        if node.executor is not None:
            node.executor.wake()

    future.add_done_callback(done)
    return awaited
