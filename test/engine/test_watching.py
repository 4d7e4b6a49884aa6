"""Standing questions on the engine thread."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from concurrent.futures import wait

import numpy as np
import pytest
import torch

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine import (
    EngineRunner,
    LoadedModel,
    Question,
    RunnerConfig,
    StreamConfig,
    VideoStream,
    Watch,
    Watches,
    WatchEvent,
    load_model,
)
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.scoring import TreeBatch
from stream_vl_ros.errors import ConfigError, EngineClosedError

SECOND = 1_000_000_000
BLUE = Watch("blue", "Is there a blue square?")
RED = Watch("red", "Is there a red circle?")


@pytest.fixture(scope="module")
def embedded() -> LoadedModel:
    return load_model("embedded", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, list[float]]:
    return demo_clip()


def make(model: LoadedModel, watches: Watches | None = None, **config: object) -> EngineRunner:
    settings = {"flush_after": 60.0, "queue_policy": "block"} | config
    return EngineRunner(VideoStream(model, StreamConfig()), RunnerConfig(**settings), watches=watches)


def push(runner: EngineRunner, clip: tuple[np.ndarray, list[float]], start: float = 0, end: float = 24) -> None:
    for picture, second in zip(*clip, strict=True):
        if start <= second < end:
            runner.push(picture, round(second * SECOND))


def done(runner: EngineRunner) -> None:
    """Until everything that was pushed is encoded and looked at."""
    deadline = time.monotonic() + 30
    while True:
        status = runner.status()
        if not status.frames.queued + status.frames.in_hand and status.watch_times.count >= status.chunks.count:
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.01)


def told(events: list[WatchEvent]) -> list[tuple[str, bool, float]]:
    return [(e.watch.name, e.fired, e.moment.last_stamp_ns / SECOND) for e in events]


def test_changes_are_told_in_the_chunk_that_shows_them(embedded, clip):
    """The blue square comes at 8 s and turns yellow at 20 s, the red circle leaves at 12 s; a chunk is 2 s."""
    events: list[WatchEvent] = []
    with make(embedded, Watches([BLUE, RED], on_event=events.append)) as runner:
        push(runner, clip)
        done(runner)
        status, reports = runner.status(), runner.watches()
    assert told(events) == [
        ("red", True, 1.5),
        ("blue", True, 9.5),
        ("red", False, 13.5),
        ("blue", False, 21.5),
    ]
    blue = events[1]
    assert blue.option == "yes" and blue.probability > 0.9
    assert blue.probability == pytest.approx(math.exp(blue.scores[0]) / sum(map(math.exp, blue.scores)))
    assert (blue.moment.first_stamp_ns, blue.previous_stamp_ns, blue.moment.frames) == (0, round(7.5 * SECOND), 20)
    assert blue.seconds > 0
    assert [r.firing for r in reports] == [False, False] and all(r.probability < 0.1 for r in reports)
    assert (status.watches, status.watch_times.count, status.chunks.count) == (2, 12, 12)
    assert status.watch_times.last > 0 and status.problem == ""


def test_scores_are_those_of_a_question_of_that_moment(embedded, clip):
    events: list[WatchEvent] = []
    with make(embedded, Watches([BLUE, RED], on_event=events.append)) as runner:
        push(runner, clip)
        done(runner)
    for event in events:
        stream = VideoStream(embedded)
        frames = round(event.moment.last_stamp_ns / SECOND * 4) + 1
        stream.append(clip[0][:frames], clip[1][:frames])
        assert not stream.pending
        alone = stream.ask_choice(event.watch.question, event.watch.options, normalise=False)
        assert event.scores == pytest.approx(alone.scores, abs=1e-4)
        assert event.option == alone.text


def test_the_stream_does_not_depend_on_watches(embedded, clip):
    signatures = []
    for watches in (Watches(), Watches([BLUE, RED])):
        with make(embedded, watches) as runner:
            push(runner, clip)
            signatures.append(runner.call(lambda s: s.signature()).result(30))
    assert signatures[0] == signatures[1]


def test_one_that_is_added_in_mid_stream_is_looked_at_at_once(embedded, clip):
    events: list[WatchEvent] = []
    heard = threading.Event()

    def hear(event: WatchEvent) -> None:
        events.append(event)
        heard.set()

    with make(embedded, Watches(on_event=hear)) as runner:
        push(runner, clip, end=10)
        runner.call(lambda _: None).result(30)
        runner.add_watch(BLUE)
        assert heard.wait(20)
        assert told(events) == [("blue", True, 9.5)]
        push(runner, clip, start=10)
        done_at = time.monotonic() + 30
        while runner.status().watch_times.count < 1 + 7:
            assert time.monotonic() < done_at
            time.sleep(0.01)
    assert told(events)[1:] == [("blue", False, 21.5)]


def test_one_that_is_added_before_any_video_waits_for_it(embedded, clip):
    with make(embedded) as runner:
        runner.add_watch(RED)
        time.sleep(0.1)
        assert runner.status().watch_times.count == 0
        assert runner.watches()[0].error == ""
        push(runner, clip, end=2)
        done(runner)
        assert runner.watches()[0].firing


def test_a_removed_one_is_silent(embedded, clip):
    events: list[WatchEvent] = []
    with make(embedded, Watches([BLUE, RED], on_event=events.append)) as runner:
        push(runner, clip, end=6)
        done(runner)
        assert runner.remove_watch("blue") and not runner.remove_watch("blue")
        push(runner, clip, start=6)
        done(runner)
        assert [r.watch.name for r in runner.watches()] == ["red"]
    assert told(events) == [("red", True, 1.5), ("red", False, 13.5)]


def test_without_watches_nothing_is_spent(embedded, clip):
    with make(embedded) as runner:
        push(runner, clip, end=4)
        runner.call(lambda _: None).result(30)
        status = runner.status()
    assert (status.watches, status.watch_times.count) == (0, 0)


def test_questions_are_answered_meanwhile(embedded, clip):
    with make(embedded, Watches([Watch(f"w{i}", "Is there a blue square?") for i in range(16)])) as runner:
        asked = []
        for i, (picture, second) in enumerate(zip(*clip, strict=True)):
            runner.push(picture, round(second * SECOND))
            if i % 16 == 15:
                asked.append(runner.ask(Question("What is visible now?")))
        assert not wait(asked, 60).not_done
        assert all(f.result().complete for f in asked)
        done(runner)
        status = runner.status()
    assert status.frames.balanced and status.frames.dropped == 0
    assert status.watch_times.count == status.chunks.count == 12


@pytest.mark.alone
def test_slow_watches_do_not_starve_answers(embedded, clip, monkeypatch):
    """Looking counts as time spent on video, so answers get as much time again, as `decode_share` says."""
    whole, seconds = TreeBatch.score, 0.0

    def slow(self: TreeBatch, fork: Fork) -> list:
        time.sleep(seconds)
        return whole(self, fork)

    def written(_: VideoStream) -> int:
        generation = runner._answering._active[0].generation
        assert generation is not None
        return len(generation.tokens)

    monkeypatch.setattr(TreeBatch, "score", slow)
    endless = dataclasses.replace(embedded, eos_ids=frozenset())
    tokens = []
    for seconds in (0.0, 0.2):  # noqa: B007 - slow() reads it
        with make(endless, Watches([BLUE]), decode_share=0.5, queue_frames=200) as runner:
            push(runner, clip, end=2)
            done(runner)
            asked = runner.ask(Question("What is visible now?", max_new_tokens=10**6), timeout=600)
            push(runner, clip, start=2)
            tokens.append(runner.call(written).result(60))
            assert asked.cancel()
    assert tokens[1] > 3 * tokens[0] > 0


def test_watches_go_on_while_video_is_forgotten(embedded, clip):
    events: list[WatchEvent] = []
    config = StreamConfig(eviction="window", budget_tokens=256)
    watches = Watches([BLUE, RED], on_event=events.append)
    with EngineRunner(VideoStream(embedded, config), RunnerConfig(queue_policy="block"), watches=watches) as runner:
        push(runner, clip)
        done(runner)
        status = runner.status()
    assert status.evicted.frames > 0 and status.problem == ""
    assert told(events)[:3] == [("red", True, 1.5), ("blue", True, 9.5), ("red", False, 13.5)]
    assert events[-1].moment.first_stamp_ns > 0 or len(events) == 3


def test_after_a_reset_they_go_on_with_new_video(embedded, clip):
    events: list[WatchEvent] = []
    with make(embedded, Watches([Watch("red", RED.question, min_interval=30)], on_event=events.append)) as runner:
        push(runner, clip, start=10, end=12)
        done(runner)
        runner.reset().result(20)
        assert runner.watches()[0].firing  # nothing new was seen
        push(runner, clip, start=14, end=16)
        push(runner, clip, start=16, end=24)
        done(runner)
        assert told(events) == [("red", True, 11.5)]  # the interval is not over
        runner.reset().result(20)
        push(runner, clip, start=0, end=2)  # a recording that begins anew
        done(runner)
        push(runner, clip, start=14, end=16)
        done(runner)
    assert told(events) == [("red", True, 11.5), ("red", False, 15.5)]


def break_one(monkeypatch: pytest.MonkeyPatch, rows: int, error: Exception) -> None:
    """Every pass of at least `rows` trees fails, and that of a tree alone whose question is the longest."""
    whole = TreeBatch.score

    def score(self: TreeBatch, fork: Fork) -> list:
        if len(self._trees) >= rows or len(self._trees[0].stem) > 20:
            raise error
        return whole(self, fork)

    monkeypatch.setattr(TreeBatch, "score", score)


def test_one_that_fails_takes_no_other_along(embedded, clip, monkeypatch, caplog):
    broken = Watch("broken", "Is there a red circle or a blue square or a green triangle or anything else at all now?")
    break_one(monkeypatch, 2, RuntimeError("kernel broken"))
    events: list[WatchEvent] = []
    with make(embedded, Watches([BLUE, broken, RED], on_event=events.append)) as runner:
        push(runner, clip)
        done(runner)
        status, reports = runner.status(), runner.watches()
    assert told(events) == [("red", True, 1.5), ("blue", True, 9.5), ("red", False, 13.5), ("blue", False, 21.5)]
    assert [bool(r.error) for r in reports] == [False, True, False]
    assert "watch 'broken' could not be looked at: RuntimeError: kernel broken" in status.problem
    assert status.frames.ingested == 48 and status.frames.dropped == 0
    assert len([r for r in caplog.records if "could not be looked at" in r.message]) == 1, "told once, not per chunk"


def test_a_failure_that_passes_is_forgotten(embedded, clip, monkeypatch):
    with make(embedded, Watches([RED])) as runner:
        with monkeypatch.context() as patch:
            break_one(patch, 1, RuntimeError("for now"))
            push(runner, clip, end=2)
            done(runner)
            assert "for now" in runner.watches()[0].error
        push(runner, clip, start=2, end=4)
        done(runner)
        report = runner.watches()[0]
    assert report.error == "" and report.firing


def test_memory_that_runs_out_is_made_room_for(embedded, clip, monkeypatch):
    whole, failures = TreeBatch.score, iter([torch.OutOfMemoryError("no memory")])

    def score(self: TreeBatch, fork: Fork) -> list:
        for error in failures:
            raise error
        return whole(self, fork)

    monkeypatch.setattr(TreeBatch, "score", score)
    with make(embedded, Watches([RED, BLUE])) as runner:
        push(runner, clip, end=2)
        done(runner)
        assert [r.error for r in runner.watches()] == ["", ""]
        assert runner.status().problem == ""


def test_a_listener_that_breaks_is_reported(embedded, clip):
    def broken(event: WatchEvent) -> None:
        raise ValueError("no ears")

    with make(embedded, Watches([RED, BLUE], on_event=broken)) as runner:
        push(runner, clip)
        done(runner)
        status = runner.status()
    assert "nobody could be told of watch" in status.problem and "no ears" in status.problem
    assert status.watch_times.count == 12
    assert runner.watches()[0].error == ""


def test_refusals(embedded):
    runner = make(embedded, Watches([RED]))
    with pytest.raises(ConfigError, match="remove it first"):
        runner.add_watch(RED)
    runner.close()
    with pytest.raises(EngineClosedError):
        runner.add_watch(BLUE)
