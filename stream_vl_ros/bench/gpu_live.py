"""A camera that goes on while questions are answered, and how much video the engine can take in at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from stream_vl_ros.bench.gpu_runs import QUESTION, Samples, Task, append, sync
from stream_vl_ros.engine import EngineRunner, LoadedModel, Question, StreamConfig, VideoStream
from stream_vl_ros.engine.stream_records import ChunkReport
from stream_vl_ros.engine.units import NANOSECONDS

CAMERA_FPS = 8.0
SMALL = (392, 392)  # pictures of 196 tokens a pair


class TimedStream(VideoStream):
    """Waits for the device after each chunk, and notes when that was."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.done: list[float] = []
        super().__init__(*args, **kwargs)

    def encode_chunk(self) -> ChunkReport | None:
        report = super().encode_chunk()
        if report is not None:
            sync(self.model.adapter.device)
            self.done.append(time.perf_counter())
        return report


def live(loaded: LoadedModel, task: Task, seconds: float, questions: int, name: str = "engine") -> Iterator[Samples]:
    """Chunk latency at 8 frames a second, idle and while `questions` answers are being written all the time.

    From the arrival of a chunk's last frame to the moment that it is in the cache.
    """
    count = max(8, int(seconds * CAMERA_FPS) // 4 * 4)
    frames = task.frames(8)
    for asked in (0, questions):
        stream = TimedStream(loaded, task.config(64 + 2400 * count // 4))
        arrived, lost = [], 0
        waited: list[float] = []
        with EngineRunner(stream) as runner:
            over = threading.Event()
            askers = [threading.Thread(target=_ask, args=(runner, over, i, waited)) for i in range(asked)]
            begin = time.perf_counter()
            for i in range(count):
                time.sleep(max(0.0, begin + i / CAMERA_FPS - time.perf_counter()))
                runner.push(frames[i % len(frames)], round(i / CAMERA_FPS * NANOSECONDS))
                if i % 4 == 3:
                    arrived.append(time.perf_counter())
                if i == 3:
                    for asker in askers:
                        asker.start()
            end = time.monotonic() + 30
            while len(stream.done) < len(arrived) and time.monotonic() < end:
                time.sleep(0.01)
            over.set()
            for asker in askers:
                asker.join(30)
            status = runner.status()
            lost = status.frames.received - status.frames.ingested
        latencies = [1e3 * (b - a) for a, b in zip(arrived, stream.done, strict=False)]
        load = f"{asked} questions" if asked else "idle"
        yield Samples(name, f"first chunk of a stream, {load}", 0, latencies[:1])
        yield Samples(name, f"chunk latency, {load}", stream.cache.length, latencies[2:])
        if asked:
            yield Samples(name, f"answers of 40 tokens, {load}", stream.cache.length, waited)
        yield Samples(name, f"frames lost, {asked} questions", stream.cache.length, [float(lost)])


def _ask(runner: EngineRunner, over: threading.Event, number: int, waited: list[float]) -> None:
    while not over.is_set():
        future: Future[Any] = runner.ask(Question(f"{QUESTION}{'?' * number}", max_new_tokens=40))
        waited.append(1e3 * future.result(60).total_time)


def sustained(loaded: LoadedModel, chunks: int, frames: int = 16, name: str = "engine") -> Iterator[Samples]:
    """Frames per second that are read in, of 196 tokens a pair, with the context growing all the time."""
    task = Task((0,), 1, 1, SMALL, SMALL[0] * SMALL[1])
    config = StreamConfig(
        target_fps=0, chunk_frames=frames, max_pixels=task.max_pixels, initial_capacity=64 + 98 * frames * (chunks + 2)
    )
    stream = VideoStream(loaded, config)
    pictures = task.frames(frames)
    device = loaded.adapter.device

    def read(at: int) -> None:
        for i, picture in enumerate(pictures):
            stream.offer(picture, round((at * frames + i) / CAMERA_FPS * NANOSECONDS))
        assert stream.encode_chunk() is not None

    read(0)
    sync(device)
    begin = time.perf_counter()
    for at in range(1, chunks + 1):
        read(at)
    sync(device)
    rate = frames * chunks / (time.perf_counter() - begin)
    yield Samples(name, f"frames/s, 196 tokens a pair, chunks of {frames}", stream.cache.length, [rate])


__all__ = ["append", "live", "sustained"]
