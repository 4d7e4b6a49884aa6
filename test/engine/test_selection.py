"""Drawing tokens: the distribution is transformers' own, the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stream_vl_ros.engine import Question, StreamConfig, VideoStream
from stream_vl_ros.engine.selection import TokenChooser


@pytest.fixture(scope="module")
def stream(loaded) -> VideoStream:
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    video = np.random.default_rng(2).integers(0, 256, (8, 60, 80, 3), dtype=np.uint8)
    stream.append(video, [0.5 * i for i in range(8)])
    return stream


@pytest.fixture(scope="module")
def logits(stream) -> torch.Tensor:
    """Of a real first token."""
    with stream.fork() as fork:
        return 3 * fork.feed(fork.ask.tokens(stream.model.tokenizer, question="What is it?"))


SETTINGS = [{"temperature": 0.7}, {"temperature": 1.0, "top_p": 0.6}, {"temperature": 1.5, "top_k": 20, "top_p": 0.9}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_probabilities_are_those_of_transformers(logits, settings):
    warpers = [TemperatureLogitsWarper(settings["temperature"])]
    if "top_k" in settings:
        warpers.append(TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        warpers.append(TopPLogitsWarper(settings["top_p"]))
    expected = LogitsProcessorList(warpers)(torch.zeros(1, 1, dtype=torch.int64), logits[None])[0].softmax(-1)
    got = TokenChooser(Question("What?", **settings)).probabilities(logits)
    assert torch.equal(got, expected)
    assert 1 < int((got > 0).sum()) < len(got) or settings == SETTINGS[0]


@pytest.mark.parametrize("settings", SETTINGS)
def test_tokens_are_drawn_as_often_as_their_probability_says(logits, settings):
    chooser = TokenChooser(Question("What?", seed=1, **settings))
    draws = 4000
    counts = np.bincount([chooser.choose(logits) for _ in range(draws)], minlength=len(logits))
    expected = chooser.probabilities(logits).double().numpy() * draws
    assert counts[expected == 0].sum() == 0
    often = expected >= 5
    observed = [*counts[often], counts[~often].sum()]
    predicted = np.array([*expected[often], expected[~often].sum()])
    keep = predicted > 0
    observed, predicted = np.array(observed)[keep], predicted[keep]
    assert chisquare(observed, predicted * observed.sum() / predicted.sum()).pvalue > 1e-3


def test_temperature_zero_is_greedy(logits):
    assert TokenChooser(Question("What?", top_p=0.1, seed=3)).choose(logits) == int(logits.argmax())


def test_the_seed_decides(stream):
    ask = lambda **more: stream.ask("What is it?", max_new_tokens=12, temperature=1.5, **more).token_ids  # noqa: E731
    signature = stream.signature()
    assert ask(seed=1) == ask(seed=1)
    assert len({ask(seed=i) for i in range(6)}) > 3
    assert len({ask() for _ in range(6)}) > 3
    assert stream.signature() == signature


def test_a_draw_in_a_batch_is_the_draw_alone(stream):
    questions = [Question("What is it?", max_new_tokens=10, temperature=1.2, top_p=0.9, seed=i) for i in range(5)]
    alone = [stream.ask(q).token_ids for q in questions]
    assert [a.token_ids for a in stream.ask_many(questions)] == alone
    assert len(set(alone)) > 2
