"""The engine thread when the stamps jump: accounts, one log line each, counters, watches, questions."""

from __future__ import annotations

import time

import numpy as np
import pytest

from stream_vl_ros.engine import EngineRunner, Question, RunnerConfig, StreamConfig, VideoStream, Watch, Watches

SECOND = 1_000_000_000
SHORT = Question("What is it?", max_new_tokens=5)
POLICIES = ["reset", "continue", "mark"]


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (60, 56, 84, 3), dtype=np.uint8)


def make(model, policy: str, watches: Watches | None = None, **config) -> EngineRunner:
    stream = VideoStream(model, StreamConfig(**{"target_fps": 0, "on_time_jump": policy} | config))
    return EngineRunner(stream, RunnerConfig(flush_after=60, queue_policy="block"), watches=watches)


def push(runner: EngineRunner, video: np.ndarray, start: float = 0.0) -> None:
    for i, picture in enumerate(video):
        runner.push(picture, round((start + i / 2) * SECOND))


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


@pytest.mark.parametrize(
    ("policy", "ingested", "drops", "seen"),
    [("reset", 8, {"time_jump": 8}, 3), ("continue", 16, {}, 19), ("mark", 16, {}, 19)],
)
def test_accounts_counters_and_one_line_each(loaded, video, caplog, policy, ingested, drops, seen):
    with make(loaded, policy) as runner:
        push(runner, video[:7], 1000.0)
        push(runner, video[7:14], 50.0)
        time.sleep(1.1)  # lines of one kind are held back for a second
        push(runner, video[14:16], 0.0)
        push(runner, video[16:19], 900.0)
        answer = runner.ask(SHORT).result(20)
        status = settled(runner, 3)
    assert (status.frames.received, status.frames.ingested, status.frames.drops) == (19, ingested, drops)
    assert (status.jumps.back, status.jumps.gaps) == (2, 1)
    assert (answer.moment.frames, answer.moment.last_stamp_ns) == (seen, 901 * SECOND)
    assert answer.moment.first_stamp_ns == (900 if policy == "reset" else 1000) * SECOND
    assert status.problem == ""
    lines = [r.message for r in caplog.records if "on_time_jump" in r.message]
    assert len(lines) == 3
    assert "jumped back by 953.000 s, from 1003.000000 s to 50.000000 s (jump_back 1 s)" in lines[0]
    assert "jumped ahead by 899.500 s, from 0.500000 s to 900.000000 s (max_gap 60 s)" in lines[2]
    assert all(repr(policy) in line for line in lines)


@pytest.mark.parametrize("policy", POLICIES)
def test_counters_outlive_a_reset(loaded, video, policy):
    with make(loaded, policy) as runner:
        push(runner, video[:4])
        push(runner, video[4:6], -100.0)
        runner.reset().result(20)
        assert runner.status().jumps.back == 1
        push(runner, video[:4])  # begins anew: no jump
        push(runner, video[4:6], -100.0)
        assert settled(runner, 2).jumps.back == 2


def test_two_clocks_on_one_topic_do_not_fill_the_log(loaded, video, caplog):
    with make(loaded, "mark") as runner:
        for i in range(30):
            runner.push(video[i], (i + (1000 if i % 2 else 0)) * SECOND)
        status = settled(runner, 1)
    assert status.jumps.back + status.jumps.gaps == 29
    assert len([r for r in caplog.records if "on_time_jump" in r.message]) < 10


@pytest.mark.parametrize("policy", POLICIES)
def test_a_broken_picture_at_the_jump_leaves_it_to_the_next_one(loaded, video, policy, caplog):
    def broken() -> np.ndarray:
        raise OSError("truncated")

    with make(loaded, policy) as runner:
        push(runner, video[:7], 1000.0)
        for _ in range(3):
            runner.push(broken, 0)
        assert settled(runner, 3).jumps.back == 0
        push(runner, video[7:11], 0.5)
        status = settled(runner, 3)
    assert status.jumps.back == 1
    assert status.frames.drops["decode_error"] == 3
    assert len([r for r in caplog.records if "on_time_jump" in r.message]) == 1


def test_a_chunk_that_fails_at_the_jump_is_counted_and_the_jump_stands(loaded, video):
    language = loaded.native.model.language_model
    with make(loaded, "mark") as runner:
        push(runner, video[:7], 1000.0)
        settled(runner, 3)
        hook = language.layers[0].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(ValueError("broken")))
        push(runner, video[7:8])
        failed = settled(runner, 0)
        hook.remove()
        push(runner, video[8:12], 0.5)
        status = settled(runner, 0)
        anchors = runner.call(lambda s: s.state.span).result(20)
    assert failed.frames.drops == {"encode_error": 4}
    assert (status.frames.ingested, status.jumps.back, anchors) == (8, 1, 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_watches_look_at_both_sides_of_a_jump(loaded, video, policy):
    """The minimum interval is one of video: a jump back ends it."""
    events = []
    watch = Watch("any", "What is it?", ("yes", "no"), threshold=1e-9, hysteresis=0.0, min_interval=1000.0)
    with make(loaded, policy, Watches([watch], on_event=events.append)) as runner:
        push(runner, video[:8], 500.0)
        settled(runner, 0)
        push(runner, video[8:16], 0.0)
        status = settled(runner, 0)
        report = runner.watches()[0]
    assert [e.moment.last_stamp_ns for e in events] == [501_500_000_000]
    assert (report.stamp_ns, report.error) == (3_500_000_000, "")
    assert status.watch_times.count >= 4


def test_a_turn_about_video_that_a_jump_forgot_is_not_remembered(loaded, video):
    import dataclasses

    endless = dataclasses.replace(loaded, eos_ids=frozenset())
    with make(endless, "reset") as runner:
        push(runner, video[:4], 1000.0)
        asked = runner.ask(Question("What is it?", max_new_tokens=300), remember=True)
        push(runner, video[4:8], 0.0)
        settled(runner, 0)
        assert not asked.done()
        assert not asked.result(60).remembered
        assert runner.call(lambda s: s.frames).result(20) == 4


def test_a_recalled_memory_outlives_the_time_since(loaded, video):
    with make(loaded, "reset") as runner:
        push(runner, video[:8])
        runner.keep("door").result(20)
        runner.recall("door").result(20)
        push(runner, video[8:12], 5000.0)
        answer = runner.ask(SHORT).result(20)
        assert runner.status().jumps.gaps == 0
    assert (answer.moment.frames, answer.moment.first_stamp_ns) == (12, 0)
