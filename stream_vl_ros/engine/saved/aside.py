"""Saving and loading beside a running engine: the disk is waited for on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, TypeVar

from stream_vl_ros.engine.answering import fulfil
from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.saved.memory_file import SavedMemory, moment_of, read, write
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.stream_records import StreamSnapshot

T = TypeVar("T")


class Call(Protocol):
    """`EngineRunner.call`."""

    def __call__(self, action: Callable[[VideoStream], T], *, reason: str = "reset") -> Future[T]: ...


def save(call: Call, folder: Path) -> Future[SavedMemory]:
    """Take the stream's moment in this call's turn in the queue, and write it while the stream goes on."""
    moment = call(moment_of)
    return _on_a_thread(lambda: write(moment.result(), folder, _Turn(call)))


def load(
    call: Call, stream: VideoStream, folder: Path, restore: Callable[[StreamSnapshot], None]
) -> Future[SavedMemory]:
    """Read a memory while the stream goes on, and then let `restore` go back to it on the engine's thread."""

    def work() -> SavedMemory:
        snapshot, account = read(stream.model, folder, _Turn(call))

        def go_back(present: VideoStream) -> StreamConfig:
            restore(snapshot)
            return present.config

        return account(call(go_back, reason="restore").result())

    return _on_a_thread(work)


class _Turn:
    """Work that uses the model's device, between chunks and answers: the engine's graphs must not be disturbed."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __call__(self, work: Callable[[], T], /) -> T:
        return self._call(lambda _: work()).result()


def _on_a_thread(work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    # A daemon: a process that ends does not wait for a disk. What was there before stays whole.
    threading.Thread(target=fulfil, args=(future, work), name="stream_vl_memory", daemon=True).start()
    return future
