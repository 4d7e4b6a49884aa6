"""Waiting frames of large pictures: looked at once, read pair by pair on forks, whatever else happens meanwhile."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from stream_vl_ros.engine import EngineRunner, Question, RunnerConfig, StreamConfig, VideoStream, intake
from stream_vl_ros.engine.visual import LARGE

QUESTION = "What is it?"
SIDE = 448  # 256 visual tokens a pair


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(6).integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)


def make(loaded, chunk: int = 4, **settings) -> VideoStream:
    return VideoStream(loaded, StreamConfig(target_fps=0, chunk_frames=chunk, max_pixels=SIDE * SIDE, **settings))


def watch(stream: VideoStream, video: np.ndarray, begin: int, end: int) -> None:
    stream.append(video[begin:end], [i / 2 for i in range(begin, end)])


def ask(fork) -> torch.Tensor:
    """Scores of the first token of an answer."""
    with fork:
        return fork.feed(list(range(5, 30)))


def straight(loaded, video: np.ndarray, count: int) -> torch.Tensor:
    """The same of a stream that read so many frames as one chunk."""
    stream = make(loaded, chunk=64)
    watch(stream, video, 0, count)
    stream.flush()
    return ask(stream.fork())


@pytest.fixture
def looked_at(loaded, monkeypatch) -> list[int]:
    """How many patches went through the vision tower, call by call."""
    counts: list[int] = []
    embed = loaded.adapter.embed_video
    monkeypatch.setattr(
        loaded.adapter, "embed_video", lambda patches, grid: counts.append(len(patches)) or embed(patches, grid)
    )
    return counts


def test_pictures_are_large(loaded, video):
    stream = make(loaded)
    watch(stream, video, 0, 4)
    assert stream.cache.length > 2 * LARGE


@pytest.mark.parametrize("chunk", [4, 6])
def test_questions_at_every_frame_change_no_bit_of_the_stream(loaded, video, chunk):
    quiet, busy = make(loaded, chunk), make(loaded, chunk)
    for i in range(len(video)):
        for stream in (quiet, busy):
            watch(stream, video, i, i + 1)
        busy.ask(QUESTION, max_new_tokens=2)
    assert busy.signature() == quiet.signature()


@pytest.mark.parametrize("settings", [{}, {"still_threshold": 3.0}], ids=["all", "filtered"])
def test_every_moment_is_what_one_pass_over_it_says(loaded, video, settings):
    """Whether or not the moments before were asked about."""
    busy = make(loaded, 8, **settings)
    for count in range(1, 11):
        watch(busy, video, count - 1, count)
        if count in (3, 4, 8):  # moments that nobody asks about
            continue
        seen, alone = ask(busy.fork()), make(loaded, 8, **settings)
        watch(alone, video, 0, count)
        assert (seen - ask(alone.fork())).abs().max() < 1e-4, count
        assert (seen - straight(loaded, video, count)).abs().max() < 1e-4, count


def test_each_pair_goes_through_the_vision_tower_once(loaded, video, looked_at):
    stream = make(loaded)
    watch(stream, video, 0, 4)
    looked_at.clear()
    for i in range(4, 8):
        watch(stream, video, i, i + 1)
        for _ in range(2):
            stream.ask(QUESTION, max_new_tokens=1)
    pair = SIDE * SIDE // 14**2
    assert looked_at == [pair] * 4  # frame 5 doubled, 5 and 6, frame 7 doubled, 7 and 8


def test_the_vision_tower_works_before_the_chunk_is_full(loaded, video, looked_at):
    stream = make(loaded)
    watch(stream, video, 0, 2)
    assert len(looked_at) == 1 and stream.frames == 0
    watch(stream, video, 2, 4)
    assert len(looked_at) == 2 and stream.frames == 4


def test_a_deferred_fork_sees_its_moment_whatever_happens_to_the_stream(loaded, video):
    stream = make(loaded)
    watch(stream, video, 0, 7)
    early, late = stream.defer(), stream.defer()
    watch(stream, video, 7, 12)
    expected = straight(loaded, video, 7)
    assert (ask(early.fork()) - expected).abs().max() < 1e-4
    stream.reset()
    assert late.moment.frames == 7
    assert (ask(late.fork()) - expected).abs().max() < 1e-4


def test_pieces_of_several_moments_may_be_read_in_turn(loaded, video):
    stream = make(loaded, chunk=8)
    deferred = []
    for count in (3, 5, 6):
        watch(stream, video, stream.frames + len(stream.pending), count)
        deferred.append((count, stream.defer()))
        deferred[-1][1].advance()
    stream.append(video[6:], [i / 2 for i in range(6, 12)])
    for _, each in deferred:
        each.advance()
    for count, each in deferred:
        steps = 0
        while not each.ready:
            each.advance()
            steps += 1
        assert steps < 12
        assert (ask(each.fork()) - straight(loaded, video, count)).abs().max() < 1e-4


def test_a_piece_that_fails_can_be_tried_again(loaded, video, monkeypatch):
    stream = make(loaded)
    watch(stream, video, 0, 7)
    deferred, calls = stream.defer(), []
    read = loaded.adapter.read

    def fails_once(*args):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("no memory, for once")
        read(*args)

    monkeypatch.setattr(loaded.adapter, "read", fails_once)
    deferred.advance()
    with pytest.raises(torch.OutOfMemoryError):
        [deferred.advance() for _ in range(9)]
    while not deferred.ready:
        deferred.advance()
    assert (ask(deferred.fork()) - straight(loaded, video, 7)).abs().max() < 1e-4


def test_a_border_in_time_between_waiting_frames(loaded, video):
    """Its odd frame is doubled and done with; another one goes on from there."""
    stamps = [0.0, 0.5, 1.0, 1000.0, 1000.5]
    busy, alone = make(loaded, 8), make(loaded, 8)
    for i in range(5):
        busy.offer(video[i], round(stamps[i] * 1e9))
        busy.fork().close()
        alone.offer(video[i], round(stamps[i] * 1e9))
    seen = ask(busy.fork())
    assert (seen - ask(alone.fork())).abs().max() < 1e-4
    while alone.flush():
        pass
    assert (seen - ask(alone.fork())).abs().max() < 1e-4


def test_a_chunk_does_not_wait_for_a_question_that_came_before_it(loaded, video, monkeypatch):
    """The question sees what was there when it came, although the chunk was read first."""
    monkeypatch.setattr(intake, "SLICE", 60.0)  # of a machine that is as slow as it likes
    stream = make(dataclasses.replace(loaded, eos_ids=frozenset()))
    runner = EngineRunner(stream, RunnerConfig(queue_policy="block"))
    frames_at_first_text: list[int] = []
    for i in range(3):
        runner.push(video[i], i * 10**9 // 2)
    asked = runner.ask(
        Question(QUESTION, max_new_tokens=4), on_text=lambda _: frames_at_first_text.append(stream.frames)
    )
    runner.push(video[3], 3 * 10**9 // 2)
    with runner:
        answer = asked.result(60)
    assert answer.moment.frames == 3 and frames_at_first_text[0] == 4
    alone = make(stream.model)
    watch(alone, video, 0, 3)
    assert answer.token_ids == alone.ask(QUESTION, max_new_tokens=4).token_ids


def test_a_question_whose_reading_ran_out_of_memory_once_sees_its_video(loaded, video, monkeypatch):
    """Nothing waits for its chunk: the fork is all there is."""
    stream = make(loaded)
    watch(stream, video, 0, 4)
    expected = stream.ask(QUESTION, max_new_tokens=4)
    read, lengths = loaded.adapter.read_text, []

    def fails_once(ids, starts, cache):
        lengths.append(cache.length)
        if len(lengths) == 1:
            raise torch.OutOfMemoryError("no memory, for once")
        return read(ids, starts, cache)

    monkeypatch.setattr(loaded.adapter, "read_text", fails_once)
    with EngineRunner(stream) as runner:
        answer = runner.ask(Question(QUESTION, max_new_tokens=4)).result(60)
    assert answer.token_ids == expected.token_ids and lengths[1] == lengths[0] > 0


def test_questions_that_wait_keep_no_more_than_a_second_memory(loaded):
    """Each sees a moment of its own, and all of them are forgotten meanwhile."""
    stream = VideoStream(loaded, StreamConfig(target_fps=0, eviction="window", budget_tokens=512))
    pictures = np.random.default_rng(1).integers(0, 256, (8, 112, 112, 3), dtype=np.uint8)
    with EngineRunner(stream, RunnerConfig(queue_policy="block", decode_share=0.05)) as runner:
        for i in range(80):
            runner.push(pictures[i % 8], i * 10**9 // 2)
        runner.call(lambda _: None).result(60)
        asked, most = [], 0
        for i in range(80, 400):
            runner.push(pictures[i % 8], i * 10**9 // 2)
            if len(asked) < 60 and i % 4 == 0:
                asked.append(runner.ask(Question(QUESTION, max_new_tokens=1), timeout=120))
            most = max(most, stream.cache.pinned_bytes)
        for future in asked:
            future.result(120)
    assert most <= 3 * stream.cache.memory_bytes, (most, stream.cache.memory_bytes)
