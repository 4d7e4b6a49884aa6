"""Answers written side by side are the answers written alone."""

from __future__ import annotations

import gc
import random
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from stream_vl_ros.engine import Question, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.answer import Finish
from stream_vl_ros.engine.batch import DecodeBatch
from stream_vl_ros.engine.generation import Generation
from stream_vl_ros.world.heldout import heldout

QUESTIONS = [
    "What is it?",
    "Is there anything red, blue, green or yellow in the picture at this very moment, or was there before?",
    "Why?",
    "How many objects are there?",
]


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (40, 60, 80, 3), dtype=np.uint8)


@pytest.fixture
def stream(loaded) -> VideoStream:
    return VideoStream(loaded, StreamConfig(target_fps=0))


def watch(stream: VideoStream, video: np.ndarray, start: int, end: int) -> None:
    stream.append(video[start:end], [0.5 * i for i in range(start, end)])


def begun(stream: VideoStream, text: str, length: int = 12) -> Generation:
    generation = stream.start(Question(text, max_new_tokens=length))
    generation.prefill()
    return generation


def finish(batch: DecodeBatch) -> None:
    while len(batch):
        assert batch.step() == []


@pytest.mark.parametrize("k", [1, 4, 16])
@pytest.mark.parametrize("frames", [8, 11])
def test_k_questions_of_one_moment(stream, video, k, frames):
    """With whole chunks only, and with frames that still wait for theirs."""
    watch(stream, video, 0, frames)
    texts = [f"{QUESTIONS[i % 4]} {i}" for i in range(k)]
    alone = [stream.ask(t, max_new_tokens=5 + i % 9) for i, t in enumerate(texts)]
    signature, batch = stream.signature(), DecodeBatch(stream.model)
    together = [begun(stream, t, 5 + i % 9) for i, t in enumerate(texts)]
    for generation in together:
        if not generation.done:  # the end of the turn may be all that the random model has to say
            batch.add(generation)
    finish(batch)
    assert [g.answer().token_ids for g in together] == [a.token_ids for a in alone]
    assert [g.answer().text for g in together] == [a.text for a in alone]
    assert len({a.token_ids for a in alone}) > k // 2  # or nothing would be compared
    assert stream.signature() == signature


def test_joining_and_leaving_while_the_stream_grows(stream, video):
    """Twenty questions at random moments of a stream that is encoded, forgotten and begun again meanwhile."""
    dice, batch = random.Random(3), DecodeBatch(stream.model)
    expected, running, done, at = {}, [], [], 0
    while len(done) < 20:
        if dice.random() < 0.5 and at + 3 < len(video):
            count = dice.randint(1, 3)
            watch(stream, video, at, at + count)
            at += count
        elif at + 3 >= len(video):
            stream.reset()
            at = 0
            watch(stream, video, 0, 2)
            at = 2
        if at and len(running) < 6 and dice.random() < 0.6:
            text, length = dice.choice(QUESTIONS), dice.randint(3, 15)
            generation = begun(stream, text, length)
            expected[id(generation)] = stream.ask(text, max_new_tokens=length).token_ids
            batch.add(generation)
            running.append(generation)
        if running and dice.random() < 0.1:  # one that nobody wants any more
            gone = running.pop(dice.randrange(len(running)))
            batch.remove(gone)
            gone.stop(Finish.CANCELLED)
            assert gone.answer().token_ids == expected[id(gone)][: len(gone.tokens)]
        if len(batch):
            assert batch.step() == []
        done += [g for g in running if g.done]
        running = [g for g in running if not g.done]
    assert len({expected[id(g)] for g in done}) > 8
    assert [g.answer().token_ids for g in done] == [expected[id(g)] for g in done]


def test_logits_are_those_of_each_alone(stream, video):
    batch = DecodeBatch(stream.model)
    for i, text in enumerate(QUESTIONS):
        watch(stream, video, 5 * i, 5 * i + 5)
        batch.add(begun(stream, text))
    generations = list(batch._generations)
    alone = []
    watched = VideoStream(stream.model, stream.config)
    for i, text in enumerate(QUESTIONS):
        watch(watched, video, 5 * i, 5 * i + 5)
        twin = begun(watched, text)
        alone.append(twin.fork.feed([generations[i].next_token]))
    together = batch._forward(range(4)).scores
    assert max((a - b).abs().max() for a, b in zip(alone, together, strict=True)) < 1e-4


def test_the_embedded_model_answers_in_a_batch(video):
    model = load_model("embedded", device="cpu", dtype="float32")
    (clip,) = heldout(16, 1)
    stream = VideoStream(model, StreamConfig(target_fps=0))
    stream.append(clip.frames(), clip.stamps())
    texts = ["What is visible now?", "How many objects are there?", "Describe the scene.", "Where is the circle?"]
    batch = DecodeBatch(model)
    together = [begun(stream, t, 40) for t in texts]
    for generation in together:
        batch.add(generation)
    finish(batch)
    assert [g.answer().text for g in together] == [stream.ask(t).text for t in texts]
    assert all(g.finish is Finish.STOP for g in together)


def test_one_that_fails_does_not_take_the_others_along(stream, video, monkeypatch):
    watch(stream, video, 0, 8)
    batch = DecodeBatch(stream.model)
    good, bad, other = (begun(stream, t, 8) for t in QUESTIONS[:3])
    for generation in (good, bad, other):
        batch.add(generation)

    take = Generation.take

    def sometimes_broken(self: Generation, logits: torch.Tensor, best: int | None = None) -> None:
        if self is bad:
            raise ZeroDivisionError("of one row")
        take(self, logits, best)

    monkeypatch.setattr(Generation, "take", sometimes_broken)
    (failure,) = batch.step()
    assert failure.generation is bad
    assert isinstance(failure.error, ZeroDivisionError)
    finish(batch)
    assert good.answer().token_ids == stream.ask(QUESTIONS[0], max_new_tokens=8).token_ids
    assert other.answer().token_ids == stream.ask(QUESTIONS[2], max_new_tokens=8).token_ids


def test_a_pass_that_fails_for_all_is_tried_one_by_one(stream, video):
    watch(stream, video, 0, 8)
    batch = DecodeBatch(stream.model)
    generations = [begun(stream, t, 8) for t in QUESTIONS]
    for generation in generations:
        batch.add(generation)
    calls = []

    def fail_for_more_than_one(module, args, kwargs):
        rows = kwargs["inputs_embeds"].shape[0]
        calls.append(rows)
        if rows > 1:
            raise MemoryError("no room for all")

    hook = stream.model.native.model.language_model.register_forward_pre_hook(fail_for_more_than_one, with_kwargs=True)
    assert batch.step() == []
    hook.remove()
    assert calls == [4, 4, 1, 1, 1, 1]  # once more after making room, then one by one
    finish(batch)
    for text, generation in zip(QUESTIONS, generations, strict=True):
        assert generation.answer().token_ids == stream.ask(text, max_new_tokens=8).token_ids


def test_a_step_whose_tokens_cannot_be_told_is_not_made_twice(stream, video, monkeypatch):
    watch(stream, video, 0, 8)
    batch = DecodeBatch(stream.model)
    generations = [begun(stream, t, 8) for t in QUESTIONS[:2]]
    for generation in generations:
        batch.add(generation)
    before = [g.fork.position for g in generations]
    write = type(stream.model.adapter).write

    def untold(*args, **kwargs):
        def best():
            raise MemoryError("none left for the best tokens")

        return replace(write(*args, **kwargs), best=best)

    monkeypatch.setattr(type(stream.model.adapter), "write", untold)
    failures = batch.step()
    assert [f.generation for f in failures] == generations
    assert all("none left" in str(f.error) for f in failures)
    assert [g.fork.position for g in generations] == [p + 1 for p in before]
    assert len(batch) == 0


def test_finished_answers_free_their_memory(stream, video):
    watch(stream, video, 0, 8)
    batch = DecodeBatch(stream.model)
    batch.add(begun(stream, QUESTIONS[0], 4))
    assert batch.memory_bytes > 0
    storage = weakref.ref(stream.cache.own_tokens(0)[0].untyped_storage())
    stream.reset()
    finish(batch)
    gc.collect()
    assert batch.memory_bytes == 0
    assert storage() is None
