"""How questions are worded: which templates are trained, which are held out, and drawing one."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache
from typing import Literal

from stream_vl_ros.world.fresh import FRESH
from stream_vl_ros.world.phrases import MORE_QUESTIONS, composed
from stream_vl_ros.world.templates import TEMPLATES

TRAINED_OPENINGS = (
    "Please: ",
    "Please tell me: ",
    "Hey, ",
    "Hello, ",
    "Robot, ",
    "Quick question: ",
    "Excuse me, ",
    "Now, ",
    "So, ",
    "Say, ",
    "One question: ",
    "Tell me: ",
    "Hi, ",
    "Hi robot, ",
    "Hello: ",
    "OK, ",
    "OK robot, ",
    "Well, ",
    "I have a question: ",
    "A question: ",
    "Can you answer this: ",
    "Listen: ",
    "Look: ",
    "And now: ",
    "And ",
    "Robot: ",
    "Please answer: ",
    "Sorry, ",
)
HELD_OUT_OPENINGS = ("Hello robot, ", "Please, ", "Hey robot: ", "Question: ", "So tell me: ", "Excuse me: ")
TRAINED_ENDINGS = (
    " Please.",
    " Thanks.",
    " Answer briefly.",
    " Be brief.",
    " Thank you.",
    " Be quick.",
    " Thanks a lot.",
    " Answer now.",
    " In a few words.",
    " Please answer now.",
)
HELD_OUT_ENDINGS = (" Thanks robot.", " Please answer.", " Please be brief.")

TRAINED_NOUNS = [
    "dog",
    "cat",
    "car",
    "man",
    "woman",
    "person",
    "child",
    "house",
    "tree",
    "door",
    "window",
    "table",
    "chair",
    "cup",
    "box",
    "book",
    "phone",
    "train",
    "tower",
    "robot",
    "kitchen",
    "room",
    "street",
    "bird",
    "horse",
    "cow",
    "boat",
    "plane",
    "bus",
    "ship",
    "bread",
    "apple",
    "banana",
    "flower",
    "river",
    "hill",
    "bottle",
    "lamp",
    "bed",
    "shoe",
    "hat",
    "bag",
    "clock",
    "key",
    "knife",
    "plate",
    "glass",
    "ball",
    "wheel",
    "ladder",
    "wall",
    "floor",
    "sign",
    "map",
    "computer",
    "screen",
    "camera",
    "picture",
    "frame",
    "bridge",
    "road",
    "garden",
    "shop",
    "school",
    "doctor",
    "baby",
    "bear",
    "fish",
    "mouse",
    "sheep",
]
HELD_OUT_NOUNS = [
    "truck",
    "sofa",
    "bicycle",
    "giraffe",
    "spoon",
    "pencil",
    "guitar",
    "carpet",
    "teacher",
    "monkey",
    "bucket",
    "hammer",
    "pillow",
    "mountain",
    "rabbit",
    "jacket",
    "engine",
    "candle",
    "barrel",
    "lion",
]
_SOUNDS = ("ba", "co", "du", "fe", "gri", "ho", "ju", "ka", "lo", "mi", "nu", "pe", "ro", "sta", "ti", "vo", "wi", "zu")
_CLOSES = ("", "n", "r", "st", "ck", "l", "m", "p", "t", "ng")


def strange_noun(rng: random.Random, *, held_out: bool = False) -> str:
    """Something the toy world does not have; when training, every other one is made up."""
    if held_out:
        return rng.choice(HELD_OUT_NOUNS)
    if rng.random() < 0.5:
        return rng.choice(TRAINED_NOUNS)
    return "".join(rng.choice(_SOUNDS) for _ in range(rng.choice((1, 2, 2, 3)))) + rng.choice(_CLOSES)


_CHOICE = re.compile(r"\[([^\]]*)\]")


def _split(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    lines = [line.strip() for line in text.strip().splitlines()]
    return (
        tuple(line for line in lines if not line.startswith("*")),
        tuple(line[1:].strip() for line in lines if line.startswith("*")),
    )


TRAINED: dict[str, tuple[str, ...]] = {k: _split(v)[0] for k, v in TEMPLATES.items()}
HELD_OUT: dict[str, tuple[str, ...]] = {k: _split(v)[1] for k, v in TEMPLATES.items()}


def expansions(template: str) -> list[str]:
    """Every wording a template stands for, its slots left open."""
    match = _CHOICE.search(template)
    if match is None:
        return [template]
    out: list[str] = []
    for word in match.group(1).split("|"):
        out += expansions(template[: match.start()] + word + template[match.end() :])
    return out


def bare(text: str) -> str:
    """A wording without what does not make it another one: case and closing marks."""
    return text.lower().rstrip("?.! ")


NEVER: frozenset[str] = frozenset(bare(e) for k in HELD_OUT for t in HELD_OUT[k] for e in expansions(t))
"""Every expansion of a held-out template; nothing trained may equal one."""

PUT_TOGETHER: dict[str, tuple[str, ...]] = {
    k: tuple(t for t, held in composed(k) if not held) + MORE_QUESTIONS.get(k, ()) * 4 for k in TEMPLATES
}
"""Trained templates made of frames and phrases, and more of them written out, which weigh more."""

_SMALL = frozenset(
    [
        "the",
        "is",
        "are",
        "there",
        "do",
        "you",
        "me",
        "of",
        "a",
        "an",
        "that",
        "it",
        "to",
        "can",
        "so",
        "now",
        "right",
        "please",
    ]
)
_BEGGING = ", please"
_FILLERS = ("please", "just", "now", "exactly", "quickly", "then", "robot")


def _loosely(rng: random.Random, text: str) -> str:
    """A question typed in haste: a small word missing, or one too many."""
    words = text.split(" ")
    if rng.random() < 0.6:
        small = [i for i, w in enumerate(words) if w.lower() in _SMALL]
        if small and len(words) > 3:
            del words[rng.choice(small)]
    else:
        words.insert(rng.randrange(1, len(words)) if len(words) > 1 else 0, rng.choice(_FILLERS))
    return " ".join(words)


def _origins(text: str) -> Iterator[str]:
    """Bare wordings that become this one when training draws them: as they are, begged for, or typed in haste."""
    yield text
    yield text.removesuffix(_BEGGING)
    yield text + _BEGGING
    words = text.split(" ")
    for i in range(len(words) + 1):
        for small in _SMALL:
            yield " ".join([*words[:i], small, *words[i:]])
    for i, w in enumerate(words):
        if w in _FILLERS:
            yield " ".join(words[:i] + words[i + 1 :])


@cache
def held_together(kind: str) -> tuple[str, ...]:
    """The held-out wordings put together of a kind, without those that training may draw all the same."""
    trained = {bare(e) for t in (*TRAINED[kind], *PUT_TOGETHER[kind]) for e in expansions(t)} - NEVER
    held = dict.fromkeys(e for t, held in composed(kind) if held for e in expansions(t))
    return tuple(e for e in held if trained.isdisjoint(_origins(bare(e))))


Split = Literal["trained", "held_out", "fresh", "put_together"]
SPLITS: tuple[Split, ...] = ("trained", "held_out", "fresh", "put_together")
"""Which wordings to draw: trained ones, templates kept out of training, those of ``fresh``, or those put together of
a frame and a phrase that training never saw together."""


def can_word(kind: str, split: Split) -> bool:
    """Whether a kind has wordings of this split: nothing off-topic is put together."""
    return split != "put_together" or bool(held_together(kind))


def word(rng: random.Random, kind: str, slots: dict[str, str], *, split: Split = "trained") -> str:
    """One wording of a question, which `can_word`.

    Held-out ones draw their openings and endings apart as well; those put together have the trained ones.
    """
    held_out = split == "held_out"
    if split == "fresh":
        text = rng.choice(FRESH[kind])
        for slot, filler in slots.items():
            text = text.replace("{" + slot + "}", filler)
        return text if rng.random() < 0.8 else text[0].lower() + text[1:].rstrip("?.")
    if held_out:
        text = _choose(rng, rng.choice(HELD_OUT[kind]))
    elif split == "put_together":
        text = rng.choice(held_together(kind))
    else:
        while True:
            pool = PUT_TOGETHER[kind] if PUT_TOGETHER[kind] and rng.random() < 0.6 else TRAINED[kind]
            text = _choose(rng, rng.choice(pool))
            if kind != "offtopic" and rng.random() < 0.07:
                text = _loosely(rng, text)
            if bare(text) not in NEVER:
                break
    for slot, filler in slots.items():
        text = text.replace("{" + slot + "}", filler)
    u = rng.random()
    if u < 0.18:
        opening = rng.choice(HELD_OUT_OPENINGS if held_out else TRAINED_OPENINGS)
        text = opening + (text if rng.random() < 0.2 else text[0].lower() + text[1:])
    elif u < 0.24:
        text = text[0].lower() + text[1:]
    u = rng.random()
    if u < 0.06:
        text += rng.choice(HELD_OUT_ENDINGS if held_out else TRAINED_ENDINGS)
    elif u < 0.12:
        text = text.rstrip("?.")
    elif u < 0.15 and text.endswith("?"):
        text = text[:-1] + _BEGGING + "?"
    return text


def _choose(rng: random.Random, template: str) -> str:
    return _CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), template)
