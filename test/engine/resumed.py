"""Streams of all kinds, and how they go on: the same code in the tests, and in the process that resumes them.

As a process: `resumed.py JOBS` reads a JSON list of jobs and prints what became of each.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from stream_vl_ros.engine import LoadedModel, StreamConfig, VideoStream, load_memory, load_model

QUESTIONS = ("What is it?", "What happened before the red car?")


def pictures() -> np.ndarray:
    """80 pictures of noise, uint8 (80, 56, 84, 3)."""
    return np.random.default_rng(6).integers(0, 256, (80, 56, 84, 3), dtype=np.uint8)


def watch(stream: VideoStream, start: int, end: int, at: float = 0.0) -> None:
    """Append the pictures from `start` to `end`, two a second, `at` seconds later than their numbers say."""
    stream.append(pictures()[start:end], [at + i / 2 for i in range(start, end)])


# What a stream has seen when it is saved.


def plain(stream: VideoStream) -> None:
    watch(stream, 0, 32)


def odd(stream: VideoStream) -> None:
    watch(stream, 0, 19)


def waiting_only(stream: VideoStream) -> None:
    watch(stream, 0, 3)


def long(stream: VideoStream) -> None:
    for lap in range(5):
        watch(stream, 0, 79, at=lap * 39.5)


def marked(stream: VideoStream) -> None:
    watch(stream, 0, 11)
    watch(stream, 11, 22, at=500.0)  # a gap
    watch(stream, 22, 33, at=-10.0)  # and back


def marked_between_waiting(stream: VideoStream) -> None:
    watch(stream, 0, 9)
    for i in (9, 10):
        stream.offer(pictures()[i], 10**9 * (i + 700 * (i == 10)))


def remembered(stream: VideoStream) -> None:
    watch(stream, 0, 14)
    stream.remember("What is it?", "a car")


def remembered_and_more(stream: VideoStream) -> None:
    remembered(stream)
    watch(stream, 14, 31)


def gone_back(stream: VideoStream) -> None:
    watch(stream, 0, 12)
    moment = stream.snapshot()
    stream.reset()
    watch(stream, 20, 30)
    stream.restore(moment)
    watch(stream, 12, 26)


_ALL = (
    plain, odd, waiting_only, long, marked, marked_between_waiting, remembered, remembered_and_more, gone_back,
)  # fmt: skip
STORIES = {story.__name__: story for story in _ALL}


def facts(stream: VideoStream) -> dict[str, object]:
    """What can be seen of a stream, answers included."""
    return {
        "signature": stream.signature(),
        "cache": stream.cache.signature(),
        "bytes_within_budget": stream._keeper.budget is None or stream.cache.length <= stream._keeper.budget,
        "frames": [stream.frames, stream.evicted.frames, [f.stamp_ns for f in stream.pending]],
        "ledger": [stream.state.ledger.tokens, stream.state.ledger.frames, stream.state.oldest_loose],
        "answers": [list(stream.ask(q, max_new_tokens=12).token_ids) for q in QUESTIONS],
        "scores": list(stream.ask(QUESTIONS[0], ("yes", "no", "a car")).scores),
        "moment": dataclasses.asdict(stream.ask(QUESTIONS[0], max_new_tokens=1).moment) | {"cache_bytes": 0},
    }


def goes_on(stream: VideoStream) -> list[dict[str, object]]:
    """Facts of a stream now, after more video, after a turn, and after time jumped and much was forgotten."""
    told = [facts(stream)]
    last = (stream.pending[-1].stamp_ns if stream.pending else stream.state.last_stamp_ns) / 1e9
    watch(stream, 40, 53, at=last + 0.5 - 20)
    told.append(facts(stream))
    stream.remember("And now?", "a red car")
    watch(stream, 53, 60, at=last)
    told.append(facts(stream))
    watch(stream, 0, 80, at=5.0)
    told.append(facts(stream))
    return json.loads(json.dumps(told))


def resumed(model: LoadedModel, folder: str, config: StreamConfig) -> VideoStream:
    """A new stream that goes on with a saved one's memory."""
    stream = VideoStream(model, config)
    stream.restore(load_memory(model, folder))
    return stream


def main() -> None:
    models: dict[tuple[str, str], LoadedModel] = {}
    results = []
    for job in json.loads(Path(sys.argv[1]).read_text()):
        key = (job["model"], job["dtype"])
        model = models[key] = models.get(key) or load_model(key[0], device="cpu", dtype=key[1])
        results.append(goes_on(resumed(model, job["folder"], StreamConfig(**job["config"]))))
    print("RESULTS", json.dumps(results))


if __name__ == "__main__":
    main()
