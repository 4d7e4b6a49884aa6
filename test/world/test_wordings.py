"""Held-out wordings are held out."""

from __future__ import annotations

import random

import pytest

from stream_vl_ros.world import wordings
from stream_vl_ros.world.fresh import FRESH
from stream_vl_ros.world.phrases import MORE_QUESTIONS, composed
from stream_vl_ros.world.questions import ask
from stream_vl_ros.world.scene import sample_scene

SLOTS = ("o", "s", "c", "a", "p")
OPEN = {slot: "{" + slot + "}" for slot in SLOTS}


def every(templates: tuple[str, ...]) -> set[str]:
    return {wordings.bare(e) for t in templates for e in wordings.expansions(t)}


def trainable(kind: str) -> set[str]:
    """Every wording that training may draw for a kind, before openings and endings."""
    return (every(wordings.TRAINED[kind]) | every(wordings.PUT_TOGETHER[kind])) - wordings.NEVER


@pytest.mark.parametrize("kind", wordings.TEMPLATES)
def test_trained_and_held_out_templates_share_no_wording(kind: str) -> None:
    held_out = {e for k in wordings.HELD_OUT for e in every(wordings.HELD_OUT[k])}
    assert not every(wordings.TRAINED[kind]) & held_out
    assert len(wordings.HELD_OUT[kind]) * 3 >= len(wordings.TEMPLATES[kind].strip().splitlines()) - 1


@pytest.mark.parametrize("kind", wordings.TEMPLATES)
def test_nothing_drawn_for_training_is_held_out(kind: str) -> None:
    rng = random.Random(kind)
    held_out = every(wordings.HELD_OUT[kind]) | every(wordings.held_together(kind))
    tails = (*wordings.TRAINED_ENDINGS, ", please?")
    for _ in range(1000):
        text = wordings.bare(wordings.word(rng, kind, OPEN))
        for tail in tails:
            text = wordings.bare(text.removesuffix(wordings.bare(tail)))
        for opening in ("", *wordings.TRAINED_OPENINGS):
            assert text.removeprefix(opening.lower()) not in held_out


@pytest.mark.parametrize(
    ("kind", "split"),
    [(k, s) for k in wordings.TEMPLATES for s in ("held_out", "put_together") if wordings.can_word(k, s)],
)
def test_what_is_measured_as_held_out_is(kind: str, split: wordings.Split) -> None:
    rng = random.Random(kind)
    trained = trainable(kind)
    for _ in range(300):
        assert wordings.bare(wordings.word(rng, kind, OPEN, split=split)) not in trained


@pytest.mark.parametrize("kind", wordings.TEMPLATES)
def test_no_opening_makes_a_trained_wording_a_held_out_one(kind: str) -> None:
    held_out = every(wordings.HELD_OUT[kind]) | every(wordings.held_together(kind))
    for opening in wordings.TRAINED_OPENINGS:
        assert not {opening.lower() + text for text in trainable(kind)} & held_out


def test_openings_endings_and_nouns_are_disjoint() -> None:
    assert not set(wordings.TRAINED_OPENINGS) & set(wordings.HELD_OUT_OPENINGS)
    assert not set(wordings.TRAINED_ENDINGS) & set(wordings.HELD_OUT_ENDINGS)
    assert not set(wordings.TRAINED_NOUNS) & set(wordings.HELD_OUT_NOUNS)


def test_a_third_of_what_is_put_together_is_held_out() -> None:
    pairs = [held for kind in wordings.TEMPLATES for _, held in composed(kind)]
    assert 0.28 < sum(pairs) / len(pairs) < 0.38
    for kind in wordings.TEMPLATES:
        held = {t for t, h in composed(kind) if h}
        assert not held & (set(wordings.PUT_TOGETHER[kind]) - set(MORE_QUESTIONS.get(kind, ())))


@pytest.mark.parametrize("kind", wordings.TEMPLATES)
def test_what_is_put_together_to_measure_is_of_the_held_out_third(kind: str) -> None:
    held = every(tuple(t for t, h in composed(kind) if h))
    measured = every(wordings.held_together(kind))
    assert measured <= held
    assert len(measured) * 3 >= len(held)  # the others are trained wordings but for a small word
    assert wordings.can_word(kind, "put_together") == bool(measured) == (kind != "offtopic")


def test_no_off_topic_question_is_put_together() -> None:
    scene = sample_scene(random.Random(1), 8, 2.0)
    for seed in range(40):
        assert ask(random.Random(seed), scene, 7, "offtopic", split="put_together") is None
        assert ask(random.Random(seed), scene, 7, "visible", split="put_together") is not None


def test_every_kind_has_fresh_wordings_that_were_not_trained() -> None:
    assert set(FRESH) == set(wordings.TEMPLATES)
    for kind, texts in FRESH.items():
        trained = trainable(kind)
        assert not {wordings.bare(t) for t in texts} & trained
