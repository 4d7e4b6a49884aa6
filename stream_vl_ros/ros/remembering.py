"""What the stream remembers, as services: forget it, keep it under a name, go back to it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.ros.awaiting import awaitable
from stream_vl_ros.ros.messages import wire
from stream_vl_ros.srv import Memory

if TYPE_CHECKING:
    from stream_vl_ros.ros.session import Session


class Remembering:
    """Offers `~/reset`, `~/snapshot`, `~/restore` and `~/discard`."""

    def __init__(self, node: Node, *, session: Callable[[], Session], before: Callable[[], None]) -> None:
        """Offers the services.

        Args:
            node: whose they are.
            session: what remembers; raises `StreamVLError` while there is none.
            before: called first: a request must not overtake images that are here already.
        """
        self._node, self._session, self._before = node, session, before
        together = ReentrantCallbackGroup()
        self._services = [
            node.create_service(Trigger, "~/reset", self._on_reset, callback_group=together),
            node.create_service(Memory, "~/snapshot", self._on_snapshot, callback_group=together),
            node.create_service(Memory, "~/restore", self._on_restore, callback_group=together),
            node.create_service(Memory, "~/discard", self._on_discard, callback_group=together),
        ]

    async def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._before()
        try:
            await awaitable(self._node, self._session().reset())
            response.success, response.message = True, "all video is forgotten"
        except StreamVLError as error:
            response.success, response.message = False, wire(str(error))
        return response

    async def _on_snapshot(self, request: Memory.Request, response: Memory.Response) -> Memory.Response:
        return await self._done(lambda session: session.keep(request.name), response)

    async def _on_restore(self, request: Memory.Request, response: Memory.Response) -> Memory.Response:
        return await self._done(lambda session: session.recall(request.name), response)

    async def _on_discard(self, request: Memory.Request, response: Memory.Response) -> Memory.Response:
        return await self._done(lambda session: session.discard(request.name), response)

    async def _done(
        self, action: Callable[[Session], Future[dict[str, int]]], response: Memory.Response
    ) -> Memory.Response:
        self._before()
        try:
            kept = await awaitable(self._node, action(self._session()))
            response.names, response.tokens = [wire(name) for name in kept], list(kept.values())
            response.success = True
        except StreamVLError as error:
            response.success, response.error = False, wire(str(error))
        return response
