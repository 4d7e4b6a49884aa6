"""Steps that are launched before anybody asked for them: when they are the ones, and that nobody sees it if not."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from stream_vl_ros.engine import LoadedModel, Question, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.batch import DecodeBatch
from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.fused import graphs
from stream_vl_ros.engine.fused.ahead import Ahead, on_host
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.engine.segments import CacheShape

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHAPE = CacheShape(2, 2, 4, torch.float32, torch.device("cpu"))


def some(tokens: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.ones(1, 2, tokens, 4), torch.ones(1, 2, tokens, 4)) for _ in range(2)]


def filled(tokens: int = 5) -> KVCache:
    cache = KVCache(SHAPE)
    cache.append(some(tokens))
    return cache


def ahead(cache: KVCache | BatchCache) -> Ahead:
    return Ahead(1, weakref.ref(cache), cache.changes, lambda: [7], (5,), (0,))


def test_it_is_the_one_if_nothing_happened_to_the_cache():
    cache = filled()
    launched = ahead(cache)
    with cache.extend(1):
        assert launched.is_it(1, [7], [5], cache, [0])
        assert not launched.is_it(2, [7], [5], cache, [0])
        assert not launched.is_it(1, [8], [5], cache, [0])
        assert not launched.is_it(1, [7], [6], cache, [0])
        assert not launched.is_it(1, [7], [5], cache, [1])
        assert not launched.is_it(1, [7], [5], filled(), [0])


def fails(cache: KVCache) -> None:
    with contextlib.suppress(ZeroDivisionError), cache.extend(1):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "what",
    [
        lambda cache: cache.append(some(1)),
        lambda cache: cache.truncate(4),
        lambda cache: cache.resize(900),
        lambda cache: cache.rewrite(5, lambda layer, keys, values: (keys + 1, values + 1)),
        lambda cache: cache.restore(filled().snapshot()),
        lambda cache: cache.restore(replace(filled().snapshot(), stored=True)),
        lambda cache: cache.clear(),
        lambda cache: cache.discard(),
        fails,
    ],
)
def test_it_is_not_after(what: Callable[[KVCache], object]):
    cache = filled()
    launched = ahead(cache)
    what(cache)
    with cache.extend(1):
        assert not launched.is_it(1, [7], [5], cache, [0])


def test_it_is_not_after_a_row_came_or_went():
    batch = BatchCache(SHAPE)
    batch.join(filled())

    def fails_for_one():
        with contextlib.suppress(ZeroDivisionError), batch.only([0]), batch.extend(1):
            raise ZeroDivisionError

    for change in (lambda: batch.join(filled()), lambda: batch.leave(1), fails_for_one):
        launched = ahead(batch)
        change()
        with batch.only([0]), batch.extend(1):
            assert not launched.is_it(1, [7], [5], batch, [0])


def test_it_keeps_no_cache_alive():
    cache = filled()
    launched = ahead(cache)
    del cache
    assert launched.cache() is None


def test_spare_memory():
    cache = KVCache(SHAPE, initial_capacity=8)
    cache.append(some(5))
    with cache.extend(1):
        assert cache.has_spare(2) and not cache.has_spare(3)
    batch = BatchCache(SHAPE)
    batch.join(cache)
    with batch.extend(1):
        room = batch.step_rows().own[0][0].shape[2] - 7
        assert batch.has_spare(room) and not batch.has_spare(room + 1)


# --- on a GPU -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[LoadedModel, LoadedModel]:
    """With the kernels, and without."""
    folder = str(random_checkpoint(3, folder=tmp_path_factory.mktemp("checkpoint")))
    fused, plain = (load_model(folder, device="cuda", dtype="float32") for _ in range(2))
    plain.adapter.fused = None
    return fused, plain


def watched(model: LoadedModel) -> VideoStream:
    stream = VideoStream(model, StreamConfig(target_fps=0))
    stream.append(np.random.default_rng(3).integers(0, 256, (8, 90, 120, 3), dtype=np.uint8), [i / 2 for i in range(8)])
    return stream


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("side_by_side", [False, True])
def test_most_steps_of_an_answer_are_there_when_they_are_asked_for(pair, side_by_side):
    steps = pair[0].adapter.fused._steps
    before, answers = steps.found_ahead, []
    for model in pair:
        stream = watched(model)
        generation = stream.start(Question("What is it?", max_new_tokens=100))
        if side_by_side:
            generation.prefill()
            batch = DecodeBatch(model)
            batch.add(generation)
            while len(batch):
                assert batch.step() == []
        else:
            generation.run()
        answers.append(generation.answer().token_ids)
    assert answers[0] == answers[1]
    # All but the first, and those for which the buffers had to grow.
    assert steps.found_ahead - before >= len(answers[0]) - 6 > 20


@pytest.mark.gpu
@needs_cuda
def test_memory_that_runs_out_while_a_step_is_under_way(pair, monkeypatch):
    """The next one is rolled back, and made once more."""
    answers = []
    for model in pair:
        generation = watched(model).start(Question("What is it?", max_new_tokens=30))
        generation.prefill()
        batch = DecodeBatch(model)
        batch.add(generation)
        while len(batch):
            if len(generation.tokens) in (5, 9, 10):
                left = [1]

                def once(*args, left=left):
                    if left:
                        left.pop()
                        raise torch.OutOfMemoryError("none")
                    return on_host(*args)

                monkeypatch.setattr(graphs, "on_host", once)
            before = generation.fork.position
            assert batch.step() == []
            assert generation.fork.position == before + 1
        answers.append(generation.answer().token_ids)
    assert answers[0] == answers[1]


@pytest.mark.gpu
@needs_cuda
def test_a_drawn_answer_launches_nothing_ahead(pair):
    steps = pair[0].adapter.fused._steps
    before = steps.found_ahead
    watched(pair[0]).ask("What is it?", max_new_tokens=20, temperature=1.0, seed=1)
    assert steps.found_ahead == before and steps._ahead is None


@pytest.mark.gpu
@needs_cuda
def test_another_token_than_the_one_that_was_guessed(pair):
    scores = []
    for model in pair:
        with watched(model).fork() as fork:
            best = int(fork.feed(fork.ask.tokens(model.tokenizer, question="What is it?")).argmax())
            for token in (best, 11, best, 12):
                fork.write(token, more=True)
            found = fork.write(13, more=False)
            scores.append((found.scores, found.best()))
    assert (scores[0][0] - scores[1][0]).abs().max() < 1e-2
    assert scores[0][1] == scores[1][1]


@pytest.mark.gpu
@needs_cuda
def test_a_guess_whose_place_was_written_to(pair):
    """Back to where it was launched, and the token that it was for; what lies behind it is another one meanwhile."""
    scores = []
    for model in pair:
        adapter = model.adapter
        with watched(model).fork() as fork, torch.inference_mode():
            best = int(fork.feed(fork.ask.tokens(model.tokenizer, question="What is it?")).argmax())
            after = fork.write(best, more=True).best()[0]
            other = adapter.embed_text(torch.tensor([[17]], device=adapter.device))
            length = fork.cache.length
            adapter.forward(other, torch.full((3, 1, 1), fork.position), fork.cache)
            fork.cache.truncate(length)
            scores.append((fork.write(after, more=True).scores, fork.write(19, more=False).scores))
    for ours, theirs in zip(*scores, strict=True):
        assert (ours - theirs).abs().max() < 1e-2 < theirs.abs().max()


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("seed", range(6))
def test_answers_that_come_and_go(pair, seed):
    """Greedy and drawn ones, chunks and questions in between, some given up: each is the one that is written alone."""
    told = []
    for model in pair:
        random = np.random.default_rng(seed)
        stream = watched(model)
        batch, running, seen, at = DecodeBatch(model), [], [], 10.0
        for _ in range(60):
            what = random.integers(6)
            if what == 0 and len(batch) < 5:
                drawn = {"temperature": 0.9, "seed": 5} if random.integers(4) == 0 else {}
                question = Question(
                    "Why? " * (1 + random.integers(3)), max_new_tokens=int(random.integers(2, 90)), **drawn
                )
                running.append(stream.start(question))
                running[-1].prefill()
                if not running[-1].done:
                    batch.add(running[-1])
            elif what == 1:
                at += 1
                seen.append((at, random.integers(0, 256, (2, 90, 120, 3), dtype=np.uint8)))
                stream.append(seen[-1][1], [at, at + 0.5])
            elif what == 2 and len(batch) and random.integers(3) == 0:
                batch.remove(batch._generations[random.integers(len(batch))])
            elif len(batch):
                assert batch.step() == []
        told.append([tuple(g.tokens) for g in running])
        if model is pair[0]:
            unasked = watched(model)
            for at, frames in seen:
                unasked.append(frames, [at, at + 0.5])
            assert stream.signature() == unasked.signature()
    assert told[0] == told[1]
    assert len(told[0]) > 3
