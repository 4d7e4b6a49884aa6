"""Held-out wordings are held out."""

from __future__ import annotations

import random

import pytest

from stream_vl_ros.world import wordings
from stream_vl_ros.world.fresh import FRESH
from stream_vl_ros.world.phrases import MORE_QUESTIONS, composed

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
    held_out = every(wordings.HELD_OUT[kind])
    tails = (*wordings.TRAINED_ENDINGS, ", please?")
    for _ in range(600):
        text = wordings.bare(wordings.word(rng, kind, OPEN))
        for tail in tails:
            text = wordings.bare(text.removesuffix(wordings.bare(tail)))
        for opening in ("", *wordings.TRAINED_OPENINGS):
            assert text.removeprefix(opening.lower()) not in held_out


@pytest.mark.parametrize("kind", wordings.TEMPLATES)
def test_what_is_measured_as_held_out_is(kind: str) -> None:
    rng = random.Random(kind)
    trained = trainable(kind)
    for _ in range(300):
        assert wordings.bare(wordings.word(rng, kind, OPEN, split="held_out")) not in trained


@pytest.mark.parametrize("kind", wordings.TEMPLATES)
def test_no_opening_makes_a_trained_wording_a_held_out_one(kind: str) -> None:
    held_out = every(wordings.HELD_OUT[kind])
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


def test_every_kind_has_fresh_wordings_that_were_not_trained() -> None:
    assert set(FRESH) == set(wordings.TEMPLATES)
    for kind, texts in FRESH.items():
        trained = trainable(kind)
        assert not {wordings.bare(t) for t in texts} & trained
