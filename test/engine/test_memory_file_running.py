"""Saving and loading beside a running engine: frames go on being taken in, and every one of them is accounted for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_vl_ros.engine import (
    EngineRunner,
    Question,
    RunnerConfig,
    SavedMemory,
    StreamConfig,
    VideoStream,
    Watch,
    Watches,
    load_memory,
)
from stream_vl_ros.engine.saved import place
from stream_vl_ros.engine.saved.document import sealed
from stream_vl_ros.errors import ConfigError, EngineClosedError, RequestError, SavedMemoryError

sys.path.append(str(Path(__file__).parent))
from resumed import pictures

SECOND = 1_000_000_000
SHORT = Question("What is it?", max_new_tokens=8)


def make(model, *, watches: Watches | None = None, **settings) -> EngineRunner:
    stream = VideoStream(model, StreamConfig(**{"target_fps": 0, **settings}))
    return EngineRunner(stream, RunnerConfig(flush_after=60.0, queue_policy="block"), watches=watches)


def push(runner: EngineRunner, start: int, end: int, at: int = 0) -> None:
    for i in range(start, end):
        runner.push(pictures()[i % 80], at * SECOND + i * SECOND // 2)


def signature(runner: EngineRunner) -> str:
    return runner.call(lambda stream: stream.signature()).result(30)


def frames(runner: EngineRunner):
    """The account of frames, once the queue is done."""
    waiting = runner.call(lambda stream: len(stream.pending)).result(30)
    counted = runner.status().frames
    assert counted.balanced and counted.pending == waiting and all(n > 0 for n in counted.drops.values())
    return counted


@contextlib.contextmanager
def busy(folder: Path) -> Iterator[None]:
    """Somebody else holds this memory's folder: whoever saves or loads it waits, as for a slow disk."""
    with place.hold(folder, write=True):
        yield


def test_frames_are_taken_in_while_a_memory_is_saved(loaded, tmp_path):
    with make(loaded) as runner:
        push(runner, 0, 18)
        before, answer = signature(runner), runner.ask(SHORT).result(30)
        with busy(tmp_path / "kitchen"):
            saving = runner.save(tmp_path / "kitchen")
            push(runner, 18, 60)
            assert frames(runner).ingested == 60
            assert runner.ask(SHORT).result(30).moment.frames == 60
            assert not saving.done(), "all of that was while it was saved"
        saved = saving.result(30)
        assert isinstance(saved, SavedMemory) and saved.frames == 16
        after = signature(runner)
    assert after != before
    other = VideoStream(loaded, StreamConfig(target_fps=0))
    other.restore(load_memory(loaded, tmp_path / "kitchen"))
    assert (other.signature(), len(other.pending)) == (before, 2)
    assert other.ask(SHORT).token_ids == answer.token_ids


def test_what_is_evicted_while_it_is_saved_is_saved_all_the_same(loaded, tmp_path):
    with make(loaded, eviction="window", budget_tokens=120) as runner:
        push(runner, 0, 16)
        before = signature(runner)
        with busy(tmp_path / "kitchen"):
            saving = runner.save(tmp_path / "kitchen")
            push(runner, 16, 200)
            assert runner.call(lambda stream: stream.evicted.times).result(30) > 2
            assert not saving.done()
        saving.result(30)
    other = VideoStream(loaded, StreamConfig(target_fps=0))
    other.restore(load_memory(loaded, tmp_path / "kitchen"))
    assert other.signature() == before


def test_frames_before_the_call_are_saved_and_those_after_are_not(loaded, tmp_path):
    with make(loaded) as runner:
        push(runner, 0, 30)
        saving = runner.save(tmp_path / "kitchen")
        push(runner, 30, 50)
        assert saving.result(30).frames == 28
        assert frames(runner).received == 50


def test_a_memory_is_loaded_while_frames_are_taken_in(loaded, tmp_path):
    with make(loaded) as runner:
        push(runner, 0, 19)
        before, answer = signature(runner), runner.ask(SHORT).result(30)
        runner.save(tmp_path / "kitchen").result(30)
        push(runner, 19, 25)
        later = runner.ask(SHORT).result(30)
        with busy(tmp_path / "kitchen"):
            loading = runner.load(tmp_path / "kitchen")
            push(runner, 25, 38)
            assert frames(runner).ingested == 36
            assert not loading.done()
        assert loading.result(30).frames == 16
        # Three waited when it was saved; two waited now, and are lost.
        counted = frames(runner)
        assert (counted.received, counted.ingested, counted.pending) == (38 + 3, 36, 3)
        assert counted.drops == {"restore": 2}
        assert signature(runner) == before
        assert runner.ask(SHORT).result(30).token_ids == answer.token_ids
        push(runner, 19, 25)
        assert runner.ask(SHORT).result(30).token_ids == later.token_ids
        assert frames(runner).ingested == 36 + 8


def test_another_engine_goes_on_with_it(loaded, tmp_path):
    with make(loaded) as runner:
        push(runner, 0, 19)
        runner.save(tmp_path / "kitchen").result(30)
        push(runner, 19, 40)
        frames(runner)
        expected = signature(runner)
    with make(loaded) as runner:
        runner.load(tmp_path / "kitchen").result(30)
        counted = frames(runner)
        assert (counted.received, counted.ingested, counted.pending, counted.dropped) == (3, 0, 3, 0)
        push(runner, 19, 40)
        counted = frames(runner)
        assert (counted.received, counted.ingested) == (24, 24)
        assert signature(runner) == expected


def test_settings_that_are_others_now_are_logged_once(loaded, tmp_path, caplog):
    with make(loaded, chunk_frames=6, eviction="window", budget_tokens=120) as runner:
        push(runner, 0, 19)
        runner.save(tmp_path / "kitchen").result(30)
        runner.load(tmp_path / "kitchen").result(30)
        assert "other settings" not in caplog.text, "they are the same"
        expected = signature(runner)
    with make(loaded, eviction="importance", budget_tokens=120, max_gap=5.0) as runner:
        runner.load(tmp_path / "kitchen").result(30)
        (said,) = [r.getMessage() for r in caplog.records if "other settings" in r.getMessage()]
        assert said.endswith(
            "kitchen was saved with other settings, and follows the present ones: "
            "chunk_frames 6 (now 4), eviction 'window' (now 'importance'), max_gap 60.0 (now 5.0)"
        )
        assert signature(runner) == expected
        push(runner, 19, 40)
        assert frames(runner).pending < 4


def test_settings_are_for_people_whatever_they_say(loaded, tmp_path, caplog):
    """Those of another release, or of somebody's own making, are no reason to refuse it, and no flood of text."""
    with make(loaded) as runner:
        push(runner, 0, 19)
        runner.save(tmp_path / "kitchen").result(30)
        path = tmp_path / "kitchen" / "memory.json"
        told = json.loads(path.read_text())["memory"]
        told["settings"] = {"unknown": 1, "chunk_frames": "x" * 10_000, "max_gap": None, "target_fps": [[[[[[]]]]]]}
        path.write_bytes(sealed(told))
        runner.load(tmp_path / "kitchen").result(30)
        (said,) = [r.getMessage() for r in caplog.records if "other settings" in r.getMessage()]
        assert "max_gap None (now 60.0)" in said and "unknown" not in said and len(said) < 1000


def test_frames_that_were_saved_waiting_do_not_wait_for_ever(loaded, tmp_path):
    with make(loaded) as runner:
        push(runner, 0, 3)
        runner.save(tmp_path / "kitchen").result(30)
    quick = EngineRunner(VideoStream(loaded, StreamConfig(target_fps=0)), RunnerConfig(flush_after=0.2))
    with quick:
        quick.load(tmp_path / "kitchen").result(30)
        end = time.monotonic() + 20
        while quick.status().frames.ingested < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert frames(quick).pending == 1


def test_what_is_refused_changes_nothing(loaded, tmp_path):
    with make(loaded) as runner:
        push(runner, 0, 19)
        runner.save(tmp_path / "kitchen").result(30)
        runner.save(tmp_path / "broken").result(30)
        (tmp_path / "broken" / "memory.json").write_text("{}")
        push(runner, 19, 30)
        before, counted = signature(runner), frames(runner)
        runner.reconfigure(StreamConfig(target_fps=0, system_prompt="You are a dog.")).result(30)
        with pytest.raises(ConfigError, match="kept with 'You are a helpful"):
            runner.load(tmp_path / "kitchen").result(30)
        runner.reconfigure(StreamConfig(target_fps=0)).result(30)
        push(runner, 0, 30)
        assert signature(runner) == before
        counted = frames(runner)
        for name, error in (("broken", SavedMemoryError), ("nowhere", SavedMemoryError)):
            with pytest.raises(error, match=name):
                runner.load(tmp_path / name).result(30)
        with pytest.raises(SavedMemoryError, match="cannot be saved"):
            runner.save(tmp_path / "broken" / "memory.json").result(30)
        assert (signature(runner), frames(runner)) == (before, counted)


def test_an_answer_in_progress_goes_on_with_what_it_saw(loaded, tmp_path):
    endless = dataclasses.replace(loaded, eos_ids=frozenset())
    question = Question("What is it?", max_new_tokens=300)
    with make(endless) as runner:
        push(runner, 0, 8)
        runner.save(tmp_path / "kitchen").result(30)
        push(runner, 8, 24)
        alone = runner.ask(question).result(60)
        asked = runner.ask(question, remember=True)
        runner.load(tmp_path / "kitchen").result(30)
        before = signature(runner)
        answer = asked.result(60)
        assert answer.token_ids == alone.token_ids and answer.moment.frames == 24
        assert not answer.remembered and signature(runner) == before


def test_standing_questions_are_asked_about_a_loaded_memory(loaded, tmp_path):
    watches = Watches([Watch("door", "Is the door open?")])
    with make(loaded, watches=watches) as runner:
        push(runner, 0, 8)
        frames(runner)
        runner.save(tmp_path / "kitchen").result(30)
        (first,) = runner.watches()
        push(runner, 8, 16)
        frames(runner)
        runner.load(tmp_path / "kitchen").result(30)
        end = time.monotonic() + 20
        while (told := runner.watches()[0]).probability != first.probability:
            assert time.monotonic() < end, told
            time.sleep(0.01)


def test_frames_of_a_memory_are_not_counted_as_new(loaded):
    """Neither as ingested, nor as fewer than none dropped: a memory kept before a reset is larger than nothing."""
    with make(loaded) as runner:
        push(runner, 0, 8)
        runner.keep("kitchen").result(30)
        runner.reset().result(30)
        runner.recall("kitchen").result(30)
        counted = frames(runner)
        assert (counted.received, counted.ingested, counted.drops) == (8, 8, {})


def test_without_video_or_an_engine(loaded, tmp_path):
    runner = make(loaded)
    with runner:
        with pytest.raises(RequestError, match="nothing to save"):
            runner.save(tmp_path / "kitchen").result(30)
        push(runner, 0, 8)
        runner.save(tmp_path / "kitchen").result(30)
    with pytest.raises(EngineClosedError):
        runner.save(tmp_path / "kitchen")
    with pytest.raises(EngineClosedError):
        runner.load(tmp_path / "kitchen").result(30)
