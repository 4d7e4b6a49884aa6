"""Many questions with options in one pass: the scores of each alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_vl_ros.engine import StreamConfig, VideoStream
from stream_vl_ros.engine.generation import option_ids
from stream_vl_ros.engine.scoring import PASS_TOKENS, Tree, TreeBatch, passes

WORDS = ("is", "there", "now", "or", "was", "any", "red", "green", "blue", "circle", "near", "the", "far", "wall", "at")


@pytest.fixture(scope="module")
def stream(loaded) -> VideoStream:
    video = np.random.default_rng(8).integers(0, 256, (12, 60, 80, 3), dtype=np.uint8)
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(video, [i / 2 for i in range(12)])
    return stream


def questions(count: int) -> list[tuple[str, tuple[str, ...]]]:
    """Of different lengths, with two to five options of different lengths."""
    generator = np.random.default_rng(count)
    made = []
    for i in range(count):
        text = " ".join(generator.choice(WORDS, 1 + 5 * i % 23)) + "?"
        options = ["yes", "no", "a red circle at the far wall", "n", "it is not clear to me"]
        made.append((text, tuple(options[: 2 + i % 4])))
    return made


def tree(stream: VideoStream, text: str, options: tuple[str, ...]) -> Tree:
    stem = stream.pieces.ask.tokens(stream.model.tokenizer, question=text)
    return Tree(tuple(stem), tuple(tuple(o) for o in option_ids(stream.model, options)))


@pytest.mark.parametrize("count", [1, 4, 16])
def test_together_is_as_alone(stream, count):
    before = stream.signature()
    asked = questions(count)
    with stream.fork(waiting=False) as fork:
        scores = TreeBatch([tree(stream, *q) for q in asked], stream.model.adapter.device).score(fork)
        assert fork.cache.own_length == 0
    for (text, options), got in zip(asked, scores, strict=True):
        alone = stream.ask_choice(text, options, normalise=False).scores
        assert got == pytest.approx(alone, abs=1e-4)
    assert stream.signature() == before


def test_after_a_remembered_turn(loaded):
    video = np.random.default_rng(9).integers(0, 256, (4, 60, 80, 3), dtype=np.uint8)
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(video, [0, 0.5, 1, 1.5])
    stream.remember("What is it?", "a wall")
    with stream.fork(waiting=False) as fork:
        ids = tuple(fork.ask.tokens(loaded.tokenizer, question="Is it red?"))
        options = tuple(tuple(o) for o in option_ids(loaded, ("yes", "no")))
        (scores,) = TreeBatch([Tree(ids, options)], loaded.adapter.device).score(fork)
    assert scores == pytest.approx(stream.ask_choice("Is it red?", ("yes", "no"), normalise=False).scores, abs=1e-4)


def test_an_option_of_one_token():
    one = Tree((1, 2, 3), ((4,), (5, 6)))
    assert one.length == 4


def test_a_large_vocabulary_is_looked_up_in_blocks(stream, monkeypatch):
    asked = [tree(stream, *q) for q in questions(16)]
    with stream.fork() as fork:
        whole = TreeBatch(asked, stream.model.adapter.device).score(fork)
        monkeypatch.setattr("stream_vl_ros.engine.scoring._LOGIT_ROWS", 5)
        blocks = TreeBatch(asked, stream.model.adapter.device).score(fork)
    for a, b in zip(whole, blocks, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_a_fork_leaves_out_waiting_frames(loaded):
    video = np.random.default_rng(9).integers(0, 256, (7, 60, 80, 3), dtype=np.uint8)
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(video, [i / 2 for i in range(7)])
    with stream.fork(waiting=False) as fork:
        assert (fork.moment.frames, fork.moment.last_stamp_ns) == (4, 1_500_000_000)
        assert fork.cache.own_length == 0
    with stream.fork() as fork:
        assert fork.moment.frames == 7


def test_passes_are_bounded_and_hold_every_tree_once():
    generator = np.random.default_rng(3)
    trees = [Tree((1,) * int(n), ((1, 2), (3, 4))) for n in generator.integers(5, 400, 300)]
    groups = passes(trees)
    assert sorted(i for group in groups for i in group) == list(range(300))
    for group in groups:
        assert len(group) * max(trees[i].length for i in group) <= PASS_TOKENS
    assert passes([Tree((1,) * 5000, ((1,), (2,)))]) == [[0]]
    assert passes([]) == []


def test_padding_is_never_nan(stream):
    short, long = tree(stream, "a?", ("yes", "no")), tree(stream, "is " * 60, ("yes", "no"))
    with stream.fork() as fork:
        scores = TreeBatch([short, long], stream.model.adapter.device).score(fork)
    assert torch.isfinite(torch.tensor(scores)).all()
