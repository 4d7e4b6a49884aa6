"""Settings that change while the engine thread runs: in their turn, both kinds or neither, accounted for."""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from stream_vl_ros.engine import EngineRunner, Question, RunnerConfig, StreamConfig, VideoStream
from stream_vl_ros.errors import ConfigError, EngineClosedError, MemoryFullError, RequestError

SECOND = 1_000_000_000
SHORT = Question("What is it?", max_new_tokens=5)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (60, 56, 84, 3), dtype=np.uint8)


@pytest.fixture
def endless(loaded):
    """The model with no token that ends an answer, so that answers are as long as asked for."""
    return dataclasses.replace(loaded, eos_ids=frozenset())


def make(model, stream: dict | None = None, **config) -> EngineRunner:
    settings = {"flush_after": 60.0, "queue_policy": "block"} | config
    watched = VideoStream(model, StreamConfig(**{"target_fps": 0} | (stream or {})))
    return EngineRunner(watched, RunnerConfig(**settings))


def push(runner: EngineRunner, video: np.ndarray, start: int = 0) -> None:
    for i, picture in enumerate(video):
        runner.push(picture, (start + i) * SECOND // 2)


def settled(runner: EngineRunner, waiting: int):
    end = time.monotonic() + 20
    while (status := runner.status()).frames.waiting > waiting:
        assert status.frames.balanced
        assert time.monotonic() < end, status
        time.sleep(0.01)
    counted, booked = runner.call(lambda s: (len(s.pending), runner.status())).result(20)
    assert booked.frames.balanced
    assert counted == booked.frames.pending
    return booked


def config_of(runner: EngineRunner) -> StreamConfig:
    return runner.call(lambda s: s.config).result(20)


def test_it_happens_in_its_turn(loaded, video):
    """Frames that were pushed before are kept at the old cadence, those pushed behind at the new one."""
    gate = threading.Event()
    with make(loaded, {"target_fps": 2.0}) as runner:
        held = runner.call(lambda _: gate.wait(20))
        push(runner, video[:8])
        done = runner.reconfigure(StreamConfig(target_fps=1.0))
        push(runner, video[8:16], 8)
        assert not done.done()
        gate.set()
        held.result(20)
        assert [c.name for c in done.result(20).changes] == ["target_fps"]
        status = settled(runner, 0)
    assert (status.frames.ingested, status.frames.skipped) == (12, 4)


def test_what_was_done_is_the_result_and_nothing_is_nothing(loaded, video):
    with make(loaded) as runner:
        push(runner, video[:4])
        done = runner.reconfigure(
            replace(StreamConfig(target_fps=0), chunk_frames=2), replace(runner.config, decode_share=0.2)
        ).result(20)
        assert str(done) == "chunk_frames 4 -> 2, decode_share 0.5 -> 0.2"
        assert str(runner.reconfigure().result(20)) == "nothing changed"
        assert runner.config.decode_share == 0.2


def test_smaller_chunks_are_encoded_at_once(loaded, video):
    with make(loaded, {"chunk_frames": 16}) as runner:
        push(runner, video[:11])
        assert settled(runner, 11).frames.ingested == 0
        runner.reconfigure(StreamConfig(target_fps=0, chunk_frames=4)).result(20)
        status = settled(runner, 3)
    assert (status.frames.ingested, status.frames.pending, status.chunks.count) == (8, 3, 2)


def test_what_cannot_work_changes_neither(loaded, video):
    with make(loaded, {"eviction": "window", "budget_tokens": 100}) as runner:
        push(runner, video[:7])
        settled(runner, 3)
        before, own = config_of(runner), runner.config
        refused = runner.reconfigure(replace(before, budget_tokens=30), replace(own, max_questions=1))
        with pytest.raises(ConfigError, match=r"budget_tokens=30: .*raise the budget"):
            refused.result(20)
        assert (config_of(runner), runner.config) == (before, own)
        assert runner.ask(SHORT).result(20).moment.frames == 7
        assert runner.status().frames.drops == {}


@pytest.mark.parametrize("settings", [{"system_prompt": "You watch a corridor."}, {"text_base": "transformers"}])
def test_a_memory_that_begins_anew_is_accounted_for(endless, video, settings):
    with make(endless) as runner:
        push(runner, video[:7])
        asked = runner.ask(Question("What is it?", max_new_tokens=200), remember=True)
        done = runner.reconfigure(StreamConfig(target_fps=0, **settings)).result(20)
        assert done.anew
        assert not asked.done()
        answer = asked.result(60)
        assert (answer.moment.frames, len(answer.token_ids), answer.remembered) == (7, 200, False)
        push(runner, video[7:11])
        status = settled(runner, 0)
    assert (status.frames.ingested, status.frames.drops) == (8, {"reconfigure": 3})
    assert status.cache_tokens > 0


def test_a_lower_budget_is_seen_in_the_status(loaded, video):
    with make(loaded) as runner:
        push(runner, video[:48])
        full = settled(runner, 0)
        done = runner.reconfigure(StreamConfig(target_fps=0, eviction="window", budget_tokens=100)).result(20)
        status = runner.status()
    assert done.forgotten == full.cache_tokens - status.cache_tokens == status.evicted.tokens > 0
    assert status.cache_tokens <= 100
    assert status.cache_bytes < full.cache_bytes


def test_memory_that_runs_out_is_told_with_the_numbers_and_changes_nothing(loaded, video, monkeypatch):
    with make(loaded, {"eviction": "window", "budget_tokens": 100}) as runner:
        push(runner, video[:8])
        settled(runner, 0)
        cache = runner.call(lambda s: s.cache).result(20)
        monkeypatch.setattr(cache, "resize", lambda _: (_ for _ in ()).throw(MemoryError("none left")))
        with pytest.raises(MemoryFullError, match="out of memory, the video takes"):
            runner.reconfigure(StreamConfig(target_fps=0, eviction="window", budget_tokens=10**6)).result(20)
        monkeypatch.undo()
        assert config_of(runner).budget_tokens == 100
        push(runner, video[8:40], 8)
        assert settled(runner, 0).frames.ingested == 40


def test_a_shorter_wait_flushes(loaded, video):
    with make(loaded) as runner:
        push(runner, video[:3])
        assert settled(runner, 3).frames.ingested == 0
        runner.reconfigure(runner_config=replace(runner.config, flush_after=0.05)).result(20)
        assert settled(runner, 1).frames.ingested == 2


def test_a_longer_queue_lets_the_waiting_camera_in(loaded, video):
    gate = threading.Event()
    with make(loaded, queue_frames=4) as runner:
        done = runner.reconfigure(runner_config=replace(runner.config, queue_frames=50))
        done.result(20)
        held = runner.call(lambda _: gate.wait(20))
        push(runner, video[:40])  # would block with 4
        assert runner.status().frames.queued == 40
        gate.set()
        held.result(20)
        assert settled(runner, 0).frames.ingested == 40


@pytest.mark.parametrize("change", [{"queue_policy": "drop_oldest"}, {"queue_frames": 20}])
def test_a_caller_that_waits_for_room_is_let_go(loaded, video, change):
    """Though the engine thread does not get to the frames."""
    first, second = threading.Event(), threading.Event()
    with make(loaded, queue_frames=4) as runner:
        held = runner.call(lambda _: first.wait(20))
        done = runner.reconfigure(runner_config=replace(runner.config, **change))
        again = runner.call(lambda _: second.wait(20))
        pusher = threading.Thread(target=push, args=(runner, video[:8]), daemon=True)
        pusher.start()
        time.sleep(0.2)
        assert runner.status().frames.queued == 4
        first.set()
        held.result(20)
        done.result(20)
        pusher.join(10)
        assert not pusher.is_alive()
        second.set()
        again.result(20)
        status = settled(runner, 0)
    drops = {"queue_full": 4} if "queue_policy" in change else {}
    assert (status.frames.received, status.frames.drops) == (8, drops)


def test_a_shorter_queue_drops_the_oldest_at_once(loaded, video):
    started, gate = threading.Event(), threading.Event()

    def hold(_: VideoStream) -> None:
        started.set()
        gate.wait(20)

    with make(loaded, queue_policy="drop_oldest") as runner:
        first = runner.call(hold)
        started.wait(20)
        done = runner.reconfigure(runner_config=replace(runner.config, queue_frames=5))
        push(runner, video[:20])
        gate.set()
        first.result(20)
        done.result(20)
        asked = runner.ask(SHORT).result(20)
        status = settled(runner, 1)
    assert status.frames.drops == {"queue_full": 15}
    assert (asked.moment.frames, asked.moment.first_stamp_ns) == (5, 15 * SECOND // 2)


def test_fewer_questions_are_taken(endless, video):
    with make(endless) as runner:
        push(runner, video[:4])
        long = Question("What is it?", max_new_tokens=10**6)
        asked = [runner.ask(long) for _ in range(3)]
        runner.reconfigure(runner_config=replace(runner.config, max_questions=2)).result(20)
        with pytest.raises(RequestError, match="max_questions is 2"):
            runner.ask(SHORT)
        for future in asked:
            future.cancel()


def test_the_share_of_the_time_counts_at_once(endless, video):
    """While frames wait, a smaller share writes fewer tokens per chunk."""
    written = []
    for share in (0.9, 0.05):
        tokens: list[str] = []
        with make(endless, decode_share=0.5) as runner:
            push(runner, video[:4])
            runner.reconfigure(runner_config=replace(runner.config, decode_share=share)).result(20)
            asked = runner.ask(Question("What is it?", max_new_tokens=10**6), timeout=600, on_text=tokens.append)
            settled(runner, 0)
            begin = len(tokens)
            gate = threading.Event()
            held = runner.call(lambda _, gate=gate: gate.wait(20))
            for i in range(4):
                push(runner, video[4:16], 4 + 12 * i)
            gate.set()
            held.result(20)
            settled(runner, 0)
            written.append(len(tokens) - begin)
            asked.cancel()
    assert written[0] > 2 * written[1], written


def test_after_the_end(loaded):
    runner = make(loaded)
    with runner:
        pass
    with pytest.raises(EngineClosedError):
        runner.reconfigure(StreamConfig())
