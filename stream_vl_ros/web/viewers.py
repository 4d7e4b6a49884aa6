"""The pages that are open: each gets the newest of everything, as fast as it reads and no faster."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from stream_vl_ros.web.board import Board
from stream_vl_ros.web.live_video import LiveVideo, Picture

# Seconds for which a page may read nothing of what is sent to it.
PATIENCE = 10.0
# Documents that change within this are sent together.
_PAUSE = 0.04
_BUSY = 1013


class Viewers:
    """Serves websockets."""

    def __init__(self, board: Board, video: LiveVideo, limit: int, patience: float = PATIENCE) -> None:
        self._board, self._video, self._limit, self._patience = board, video, limit, patience
        self._viewers: set[_Viewer] = set()

    def __len__(self) -> int:
        return len(self._viewers)

    def ready(self, stream: str) -> None:
        """There is a new picture of a stream."""
        for viewer in self._viewers:
            if viewer.wanted is not None and viewer.wanted[0] == stream:
                viewer.wake.set()

    async def serve(self, socket: WebSocket) -> None:
        """Until the page leaves, or reads nothing for too long."""
        await socket.accept()
        if len(self._viewers) >= self._limit:
            await socket.close(_BUSY, "too many pages are open; raise max_clients")
            return
        viewer = _Viewer()
        box = self._board.open(viewer.wake.set)
        viewer.wake.set()
        self._viewers.add(viewer)
        reader = asyncio.create_task(_read(socket, viewer))
        try:
            while not reader.done():
                await viewer.wake.wait()
                viewer.wake.clear()
                documents = box.take()
                if documents:
                    await asyncio.wait_for(socket.send_text(as_json({"documents": documents})), self._patience)
                if viewer.wanted is not None:
                    stream, after = viewer.wanted
                    picture = self._video.picture(stream, after)
                    if picture is not None:
                        viewer.wanted = None
                        await asyncio.wait_for(socket.send_bytes(framed(stream, picture)), self._patience)
                await asyncio.sleep(_PAUSE)
        except (asyncio.TimeoutError, WebSocketDisconnect, RuntimeError):
            pass  # it reads nothing any more, or is gone
        finally:
            self._viewers.discard(viewer)
            self._board.close(box)
            reader.cancel()
            if socket.application_state is WebSocketState.CONNECTED:
                with suppress(RuntimeError, WebSocketDisconnect, asyncio.TimeoutError):
                    await asyncio.wait_for(socket.close(_BUSY, "too slow"), 1.0)


class _Viewer:
    """One page.

    Attributes:
        wake: set when there is something to send.
        wanted: stream, and number of the picture that it has, while it waits for the next one.
    """

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.wanted: tuple[str, int] | None = None


async def _read(socket: WebSocket, viewer: _Viewer) -> None:
    """A page says `{"next": STREAM, "after": NUMBER}` when it has shown a picture and wants the next one."""
    try:
        while True:
            with suppress(ValueError, TypeError, KeyError):
                request = json.loads(await socket.receive_text())
                viewer.wanted = (str(request["next"]), int(request["after"]))
                viewer.wake.set()
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        viewer.wake.set()


def as_json(values: Any) -> str:
    """JSON that browsers read: a number that is none, as a broken model's scores may be, becomes null."""
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(values), ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def framed(stream: str, picture: Picture) -> bytes:
    """Length of the header (4 bytes, big endian), the header as JSON, the JPEG."""
    header = json.dumps({"stream": stream, "number": picture.number, "stamp": picture.stamp / 1e9}).encode()
    return b"".join((struct.pack(">I", len(header)), header, picture.jpeg))
