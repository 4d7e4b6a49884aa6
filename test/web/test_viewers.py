"""A page that reads slowly, or not at all."""

from __future__ import annotations

import asyncio
import json
import math
import struct
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the web packages are not installed")

from starlette.websockets import WebSocketState

from stream_vl_ros.web import live_video
from stream_vl_ros.web.board import Board
from stream_vl_ros.web.live_video import LiveVideo
from stream_vl_ros.web.viewers import Viewers, as_json

pytestmark = pytest.mark.alone


class Socket:
    """A page that reads nothing once `reads` is false."""

    application_state = WebSocketState.CONNECTED

    def __init__(self) -> None:
        self.reads = True
        self.texts: list[dict] = []
        self.pictures: list[bytes] = []
        self.requests: asyncio.Queue[str] = asyncio.Queue()
        self.closed: tuple[int, str] | None = None

    async def accept(self) -> None: ...

    async def _sent(self) -> None:
        if not self.reads:
            await asyncio.Event().wait()

    async def send_text(self, text: str) -> None:
        await self._sent()
        self.texts.append(json.loads(text)["documents"])

    async def send_bytes(self, data: bytes) -> None:
        await self._sent()
        self.pictures.append(data)

    async def receive_text(self) -> str:
        return await self.requests.get()

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


def image(level: int) -> SimpleNamespace:
    data = np.full((24, 32, 3), level, dtype=np.uint8).tobytes()
    return SimpleNamespace(height=24, width=32, encoding="rgb8", is_bigendian=0, step=96, data=data)


async def eventually(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_documents_are_coalesced():
    board = Board()
    board.put("a", {"n": 0})
    woken = []
    box = board.open(lambda: woken.append(1))
    for n in range(1000):
        board.put("a", {"n": n})
    board.put("b", [1])
    board.put("a", {"n": 999})  # as it is
    assert len(box) == 2 and box.take() == {"a": {"n": 999}, "b": [1]}
    board.put("b", None)
    assert box.take() == {"b": None}
    board.close(box)
    board.put("a", {})
    assert len(box) == 0 and board.open(lambda: None).take() == {"a": {}}


def test_numbers_that_are_none():
    assert json.loads(as_json({"a": [1.5, math.nan, {"b": math.inf}], "c": "\u00fc"})) == {
        "a": [1.5, None, {"b": None}],
        "c": "\u00fc",
    }


def test_one_that_reads_nothing_is_closed_and_holds_nothing():
    async def run() -> None:
        board = Board()
        board.put("node", {"state": "active"})
        video = LiveVideo(moments=2, fps=100.0, ready=lambda name: None)
        viewers = Viewers(board, video, limit=1, patience=0.3)
        socket = Socket()
        task = asyncio.create_task(viewers.serve(socket))  # type: ignore[arg-type]
        await eventually(lambda: socket.texts)
        socket.reads = False
        for n in range(5000):
            board.put("entry/1", {"answer": "x" * n})
        await asyncio.sleep(0.1)
        assert len(viewers) == 1
        await asyncio.wait_for(task, 5)
        assert socket.closed == (1013, "too slow") and len(viewers) == 0
        video.close()

    asyncio.run(run())


def test_pictures_come_when_they_are_asked_for_and_are_the_newest():
    async def run() -> None:
        loop = asyncio.get_running_loop()
        board = Board()
        video = LiveVideo(
            moments=2, fps=200.0, ready=lambda name: loop.call_soon_threadsafe(lambda: viewers.ready(name))
        )
        viewers = Viewers(board, video, limit=2)
        sockets = [Socket(), Socket()]
        tasks = [asyncio.create_task(viewers.serve(s)) for s in sockets]  # type: ignore[arg-type]
        one, other = sockets
        one.requests.put_nowait(json.dumps({"next": "", "after": 0}))
        other.requests.put_nowait("no JSON")
        await asyncio.sleep(0.05)
        for n in range(1, 4):
            video.offer("", image(n), n)
        await eventually(lambda: one.pictures)
        for n in range(4, 50):
            video.offer("", image(n), n)
            await asyncio.sleep(0.002)
        # It did not say that it has shown the first one.
        assert len(one.pictures) == 1 and other.pictures == []
        (length,) = struct.unpack_from(">I", one.pictures[0])
        header = json.loads(one.pictures[0][4 : 4 + length])
        assert header["stream"] == "" and one.pictures[0][4 + length :].startswith(b"\xff\xd8\xff")
        one.requests.put_nowait(json.dumps({"next": "", "after": header["number"]}))
        await eventually(lambda: len(one.pictures) == 2)
        (length,) = struct.unpack_from(">I", one.pictures[1])
        assert json.loads(one.pictures[1][4 : 4 + length])["number"] == 49
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        video.close()

    asyncio.run(run())


def test_a_picture_is_made_once_for_all_and_none_for_nobody(monkeypatch):
    from stream_vl_ros.web import live_video

    made = []
    real = live_video.encoded
    monkeypatch.setattr(live_video, "encoded", lambda pixels, width: made.append(width) or real(pixels, width))
    video = LiveVideo(moments=100, fps=1000.0, ready=lambda name: None)
    second = 1_000_000_000
    for n in range(20):
        video.offer("", image(n), n * second // 100)  # not due as moments, but for the first one
    time.sleep(0.3)
    # The first picture is for whoever may have been there before the stream.
    assert made.count(live_video.WIDTH) <= 1 and made.count(live_video.SMALL) == 1
    before = len(made)
    video.offer("", image(20), 20 * second // 100)
    newest = 20
    assert all(video.picture("", newest) is None for _ in range(5))
    end = time.monotonic() + 5
    while (picture := video.picture("", newest)) is None and time.monotonic() < end:
        time.sleep(0.01)
    assert picture is not None and picture.number == 21
    assert all(video.picture("", newest) is picture for _ in range(5))
    assert len(made) == before + 1
    assert video.picture("unknown", 0) is None and video.span("unknown", 0, 1, 3) == []
    video.close()


@pytest.mark.parametrize("error", [MemoryError(), OSError("encoder error -2")])
def test_a_picture_that_breaks_a_decoder_does_not_end_the_video(monkeypatch, caplog, error):
    made = live_video.picture_of

    def picture_of(message, options):
        if message is broken:
            raise error
        return made(message, options)

    monkeypatch.setattr(live_video, "picture_of", picture_of)
    video = LiveVideo(moments=100, fps=1000.0, ready=lambda name: None)
    broken = image(1)
    video.offer("", broken, 1)
    time.sleep(0.1)
    video.offer("", image(2), 2_000_000_000)
    end = time.monotonic() + 5
    while not (moments := video.span("", 0, 10_000_000_000, 5)) and time.monotonic() < end:
        time.sleep(0.01)
    assert [m.stamp for m in moments] == [2_000_000_000]
    assert caplog.text.count("cannot be shown") == 1 and type(error).__name__ in caplog.text
    video.close()


def test_a_broken_picture_is_left_out():
    video = LiveVideo(moments=100, fps=1000.0, ready=lambda name: None)
    broken = image(1)
    broken.data = b"short"
    video.offer("", broken, 1)
    time.sleep(0.1)
    video.offer("", image(2), 2_000_000_000)
    end = time.monotonic() + 5
    while not (moments := video.span("", 0, 10_000_000_000, 5)) and time.monotonic() < end:
        time.sleep(0.01)
    assert [m.stamp for m in moments] == [2_000_000_000]
    video.close()
