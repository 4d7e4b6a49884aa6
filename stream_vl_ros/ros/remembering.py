"""What the stream remembers, as services: forget it, keep it under a name or on disk, go back to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from stream_vl_ros.ros.awaiting import awaitable
from stream_vl_ros.ros.failures import why
from stream_vl_ros.ros.messages import wire
from stream_vl_ros.ros.qos import SERVICE_QOS
from stream_vl_ros.ros.stream_parameters import ALL
from stream_vl_ros.ros.streams import selected
from stream_vl_ros.srv import Memory

if TYPE_CHECKING:
    from stream_vl_ros.ros.camera_stream import CameraStream
    from stream_vl_ros.ros.session import Session

T = TypeVar("T")


class Remembering:
    """Offers `~/reset`, `~/snapshot` and the like; with several streams also `~/NAME/reset`."""

    def __init__(
        self, node: Node, streams: Mapping[str, CameraStream], session: Callable[[CameraStream], Session]
    ) -> None:
        """Offers the services.

        Args:
            node: whose they are.
            streams: what remembers, by name.
            session: its memory; raises `StreamVLError` while there is none.
        """
        self._node, self._streams, self._session = node, streams, session
        together = ReentrantCallbackGroup()
        actions: dict[str, Callable[[Session, str], Future[dict[str, int]]]] = {
            "~/snapshot": lambda session, name: session.keep(name),
            "~/restore": lambda session, name: session.recall(name),
            "~/discard": lambda session, name: session.discard(name),
            "~/save_memory": lambda session, name: session.save(name),
            "~/load_memory": lambda session, name: session.load(name),
        }
        resets = {"~/reset": ALL} | {stream.topic("reset"): name or ALL for name, stream in streams.items()}
        serve = functools.partial(node.create_service, qos_profile=SERVICE_QOS, callback_group=together)
        self._services = [
            *(serve(Trigger, topic, functools.partial(self._on_reset, name)) for topic, name in resets.items()),
            *(serve(Memory, topic, functools.partial(self._on_memory, action)) for topic, action in actions.items()),
        ]

    async def _on_reset(self, name: str, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            _, errors = await self._all(name, lambda session: session.reset())
            response.success = not errors
            response.message = wire("; ".join(errors)) or "all video is forgotten"
        except Exception as error:
            response.success, response.message = False, why(self._node, "reset", error)
        return response

    async def _on_memory(
        self,
        action: Callable[[Session, str], Future[dict[str, int]]],
        request: Memory.Request,
        response: Memory.Response,
    ) -> Memory.Response:
        try:
            done, errors = await self._all(request.stream, lambda session: action(session, request.name))
        except Exception as error:
            response.success, response.error = False, why(self._node, f"memory {request.name[:80]!r}", error)
            return response
        for stream, kept in done:
            response.streams += [stream] * len(kept)
            response.names += [wire(name) for name in kept]
            response.tokens = [*response.tokens, *kept.values()]
        response.success, response.error = not errors, wire("; ".join(errors))
        return response

    async def _all(self, name: str, action: Callable[[Session], Future[T]]) -> tuple[list[tuple[str, T]], list[str]]:
        """What the action gives for each of the streams that `name` means, and why it failed for others.

        Raises `StreamVLError` if it cannot even be tried.
        """
        streams = selected(self._streams, name)
        # A request must not overtake images that are here already.
        for stream in streams:
            stream.camera.take_waiting()
        futures = [(stream.name, action(session)) for stream, session in [(s, self._session(s)) for s in streams]]
        results, errors = [], []
        for stream_name, future in futures:
            try:
                results.append((stream_name, await awaitable(self._node, future)))
            except Exception as error:
                told = why(self._node, f"the memory of {stream_name or 'the stream'}", error)
                errors.append(f"{stream_name}: {told}" if stream_name else told)
        return results, errors
