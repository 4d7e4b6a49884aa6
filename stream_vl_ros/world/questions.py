"""Questions about a scene and their right answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from stream_vl_ros.world import truth
from stream_vl_ros.world.scene import Scene, Track
from stream_vl_ros.world.things import COLOURS, DIRECTIONS, PLACES, PLURALS, SHAPES, article, name
from stream_vl_ros.world.wordings import Split, can_word, strange_noun, word

UNKNOWN = "I don't know."
NOTHING = "nothing"
STILL = "not moving"


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its answer as of one frame.

    ``choices`` are the options of a multiple-choice question, the answer among them. ``subject`` is
    the object it is about, where there is one, so that a follow-up can say "it".
    """

    kind: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()
    subject: int = -1


Draft = tuple[dict[str, str], str, Track | None]
"""Slots of the wording, the answer, the object it is about."""


def _the(rng: random.Random, track: Track, among: list[Track], now: int) -> str:
    """A reference that names one object among the others: "circle", "red thing" or "red circle"."""
    colour = track.colour_at(now)
    options = [name(colour, track.shape)] * 2
    if sum(t.shape == track.shape for t in among) == 1:
        options.append(SHAPES[track.shape])
    if sum(t.colour_at(now) == colour for t in among) == 1:
        options.append(f"{COLOURS[colour]} {rng.choice(('object', 'thing', 'item', 'one'))}")
    return rng.choice(options)


def _absent(rng: random.Random, present: list[tuple[int, int]]) -> tuple[int, int] | None:
    """A colour and shape that no object has together, often one that shares one of them."""
    for _ in range(12):
        colour, shape = rng.randrange(len(COLOURS)), rng.randrange(len(SHAPES))
        if present and rng.random() < 0.5:
            near = rng.choice(present)
            colour, shape = (near[0], shape) if rng.random() < 0.5 else (colour, near[1])
        if (colour, shape) not in present:
            return colour, shape
    return None


def _attributes(rng: random.Random, present: list[tuple[int, int]], fair: float) -> tuple[dict[str, str], int]:
    """A description (colour, shape or both) with its slots, and how many of ``present`` fit it."""
    wanted = rng.choice(present) if present and rng.random() < fair else _absent(rng, present) or (0, 0)
    colour, shape = wanted
    form = rng.randrange(3)
    if form == 0:
        thing = rng.choice(("object", "thing", "item"))
        words, plural = f"{COLOURS[colour]} {thing}", f"{COLOURS[colour]} {thing}s"
        fits = [c == colour for c, _ in present]
    elif form == 1:
        words, plural = SHAPES[shape], PLURALS[shape]
        fits = [s == shape for _, s in present]
    else:
        words, plural = name(colour, shape), f"{COLOURS[colour]} {PLURALS[shape]}"
        fits = [(c, s) == wanted for c, s in present]
    return {"a": article(words), "o": words, "p": plural}, sum(fits)


def _identities(tracks: list[Track], now: int) -> list[tuple[int, int]]:
    return [(t.colour_at(now), t.shape) for t in tracks]


def _color_of_shape(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    there = scene.visible(now)
    single = [t for t in there if sum(u.shape == t.shape for u in there) == 1]
    if single and rng.random() < 0.92:
        t = rng.choice(single)
        return {"s": SHAPES[t.shape]}, COLOURS[t.colour_at(now)], t
    missing = [s for s in range(len(SHAPES)) if all(t.shape != s for t in there)]
    shape = SHAPES[rng.choice(missing)]
    return {"s": shape}, f"there is no {shape}", None


def _shape_of_color(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    there = scene.visible(now)
    single = [t for t in there if sum(u.colour_at(now) == t.colour_at(now) for u in there) == 1]
    if single and rng.random() < 0.92:
        t = rng.choice(single)
        return {"c": COLOURS[t.colour_at(now)]}, SHAPES[t.shape], t
    missing = [c for c in range(len(COLOURS)) if all(t.colour_at(now) != c for t in there)]
    colour = COLOURS[rng.choice(missing)]
    return {"c": colour}, f"there is no {colour} object", None


def _visible(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    there = truth.ordered(scene.visible(now), now)
    names = [article(name(t.colour_at(now), t.shape)) for t in there]
    return {}, ", ".join(names) if names else NOTHING, there[0] if len(there) == 1 else None


def _count(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    return {}, str(len(scene.visible(now))), None


def _count_attr(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    slots, fits = _attributes(rng, _identities(scene.visible(now), now), 0.7)
    return slots, str(fits), None


def _exists(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    there = _identities(scene.visible(now), now)
    past = [(t.colour, t.shape) for t in truth.seen(scene, now) if not t.visible(now)]
    if past and rng.random() < 0.25:
        # What has been there and no longer is: the question that memory gets wrong.
        colour, shape = rng.choice(past)
        if (colour, shape) not in there:
            words = name(colour, shape)
            slots = {"a": article(words), "o": words, "p": f"{COLOURS[colour]} {PLURALS[shape]}"}
            return slots, "no", None
    slots, fits = _attributes(rng, there, 0.55)
    return slots, "yes" if fits else "no", None


def _named(rng: random.Random, scene: Scene, now: int) -> list[Track]:
    """Objects seen so far that one colour names and that no other was named like."""
    return [t for t in truth.seen(scene, now) if truth.plain(t, now)]


def _first(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    t = truth.first_seen(scene, now)
    if t is None:
        return ({}, NOTHING, None) if not truth.seen(scene, now) else None
    return ({}, article(name(t.colour, t.shape)), None) if truth.plain(t, now) else None


def _last(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    t = truth.last_seen(scene, now)
    if t is None:
        return ({}, NOTHING, None) if not truth.seen(scene, now) else None
    return ({}, article(name(t.colour, t.shape)), None) if truth.plain(t, now) else None


def _beside(rng: random.Random, scene: Scene, now: int, step: int) -> Draft | None:
    candidates = _named(rng, scene, now)
    rng.shuffle(candidates)
    for t in candidates:
        other = truth.neighbour(scene, now, t, step)
        if other is None or (other is False and rng.random() < 0.7):
            continue
        if other is not False and not truth.plain(other, now):
            continue
        among = truth.seen(scene, now)
        if any(not truth.plain(u, now) and u is not t for u in among):
            reference = name(t.colour, t.shape)
        else:
            reference = _the(rng, t, among, now)
        return {"o": reference}, article(name(other.colour, other.shape)) if other else NOTHING, None
    return None


def _before(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    return _beside(rng, scene, now, -1)


def _after(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    return _beside(rng, scene, now, 1)


def _no_such(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    absent = _absent(rng, _identities(truth.seen(scene, now), now) + [(t.colour, t.shape) for t in scene.tracks])
    if absent is None:
        return None
    words = name(*absent)
    return {"o": words}, f"there is no {words}", None


def _direction(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    there = scene.visible(now)
    known = [(t, truth.motion(t, now)) for t in there]
    moving = [(t, d) for t, d in known if d is not None and d >= 0]
    still = [(t, d) for t, d in known if d == -1]
    pool = moving if moving and (not still or rng.random() < 0.75) else still
    if not pool or rng.random() < 0.04:
        return _no_such(rng, scene, now)
    t, d = rng.choice(pool)
    return {"o": _the(rng, t, there, now)}, DIRECTIONS[d] if d is not None and d >= 0 else STILL, t


def _where(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    there = scene.visible(now)
    pool = [(t, p) for t in there if (p := truth.place(t, now)) is not None]
    if not pool or rng.random() < 0.05:
        return _no_such(rng, scene, now)
    t, p = rng.choice(pool)
    return {"o": _the(rng, t, there, now)}, p, t


def _timed(rng: random.Random, scene: Scene, now: int) -> Track | None:
    pool = _named(rng, scene, now)
    later = [t for t in pool if t.first > 0]
    if later and rng.random() < 0.7:
        pool = later
    return rng.choice(pool) if pool else None


def _when(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    t = _timed(rng, scene, now)
    if t is None:
        return None
    among = truth.seen(scene, now)
    plain = all(truth.plain(u, now) for u in among)
    reference = _the(rng, t, among, now) if plain else name(t.colour, t.shape)
    return {"o": reference}, f"at second {int(scene.seconds(t.first))}", None


def _ago(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    # Of what is still there alone: "how long has it been there" has no answer for the rest.
    there = scene.visible(now)
    pool = [t for t in there if truth.plain(t, now)]
    if not pool:
        return None
    t = rng.choice(pool)
    seconds = int(scene.seconds(now) - scene.seconds(t.first))
    return {"o": _the(rng, t, there, now)}, f"{seconds} second{'' if seconds == 1 else 's'}", None


def _ever(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    known = truth.seen(scene, now)
    past = [(t.colour, t.shape) for t in known] + _identities(known, now)
    slots, fits = _attributes(rng, past, 0.55)
    return slots, "yes" if fits else "no", None


def _gone(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    t = truth.last_gone(scene, now)
    if t is None or (t is False and rng.random() < 0.5):
        return None
    if t is False:
        return {}, NOTHING, None
    return ({}, article(name(t.colour, t.shape)), None) if truth.plain(t, now) else None


def _presence(rng: random.Random, scene: Scene, now: int) -> tuple[dict[str, str], bool] | None:
    known = [t for t in truth.seen(scene, now) if truth.plain(t, now)]
    gone = [t for t in known if not t.visible(now)]
    there = [t for t in known if t.visible(now)]
    pool = gone if gone and (not there or rng.random() < 0.55) else there
    if not pool:
        return None
    t = rng.choice(pool)
    return {"o": name(t.colour, t.shape)}, t.visible(now)


def _still_there(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    found = _presence(rng, scene, now)
    return None if found is None else (found[0], "yes" if found[1] else "no", None)


def _left_view(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    found = _presence(rng, scene, now)
    return None if found is None else (found[0], "no" if found[1] else "yes", None)


def _color_change(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    there = scene.visible(now)
    known = truth.seen(scene, now)
    pool = [t for t in there if sum(u.shape == t.shape for u in known) == 1]
    changed = [t for t in pool if not truth.plain(t, now)]
    kept = [t for t in pool if truth.plain(t, now)]
    if changed and (not kept or rng.random() < 0.75):
        t = rng.choice(changed)
        return {"s": SHAPES[t.shape]}, f"from {COLOURS[t.colour]} to {COLOURS[t.new_colour]}", t
    # Unchanged ones are the common case; asked less often, so that they don't become the safe guess.
    if not kept or rng.random() < 0.7:
        return None
    t = rng.choice(kept)
    return {"s": SHAPES[t.shape]}, "no change", t


def _describe(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    there = truth.ordered(scene.visible(now), now)
    parts: list[str] = []
    for t in there:
        where, way = truth.place(t, now), truth.motion(t, now)
        if where is None or way is None:
            return None
        words = f"{article(name(t.colour_at(now), t.shape))} at the {where}"
        parts.append(words if way < 0 else f"{words} moving {DIRECTIONS[way]}")
    return {}, ", ".join(parts) if parts else NOTHING, None


def _offtopic(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    return {}, UNKNOWN, None


STRANGE_KINDS = ("color_of_shape", "exists", "direction", "where", "when", "ago", "before", "count_attr", "ever")


def _strange(rng: random.Random, *, split: Split) -> Question:
    """A question worded like any other, about a thing this world does not have."""
    noun = strange_noun(rng, held_out=split != "trained")
    slots = {"o": noun, "s": noun, "a": article(noun), "p": f"{noun}s"}
    return Question("offtopic", word(rng, rng.choice(STRANGE_KINDS), slots, split=split), UNKNOWN)


def _it(rng: random.Random, scene: Scene, now: int, motion: bool) -> Draft | None:
    there = scene.visible(now)
    if len(there) != 1:
        return None
    way, where = truth.motion(there[0], now), truth.place(there[0], now)
    if motion:
        return None if way is None else ({}, DIRECTIONS[way] if way >= 0 else STILL, there[0])
    return None if where is None else ({}, where, there[0])


def _follow_where(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    return _it(rng, scene, now, motion=False)


def _follow_direction(rng: random.Random, scene: Scene, now: int) -> Draft | None:
    return _it(rng, scene, now, motion=True)


DRAFTS: dict[str, Callable[[random.Random, Scene, int], Draft | None]] = {
    "color_of_shape": _color_of_shape,
    "shape_of_color": _shape_of_color,
    "visible": _visible,
    "count": _count,
    "count_attr": _count_attr,
    "exists": _exists,
    "first": _first,
    "last": _last,
    "before": _before,
    "after": _after,
    "direction": _direction,
    "where": _where,
    "when": _when,
    "ago": _ago,
    "ever": _ever,
    "gone": _gone,
    "still_there": _still_there,
    "left_view": _left_view,
    "color_change": _color_change,
    "describe": _describe,
    "offtopic": _offtopic,
    "follow_where": _follow_where,
    "follow_direction": _follow_direction,
}

CHOICE_KINDS = ("color_of_shape", "shape_of_color", "count", "direction", "where", "first", "last", "before")
KINDS: tuple[str, ...] = (*DRAFTS, "mcq", "letter")


def _distractors(rng: random.Random, answer: str) -> list[str] | None:
    """Wrong options of the answer's own sort."""
    if answer in COLOURS:
        pool = list(COLOURS)
    elif answer in SHAPES:
        pool = list(SHAPES)
    elif answer in ("0", "1", "2", "3"):
        pool = ["0", "1", "2", "3"]
    elif answer in (*DIRECTIONS, STILL) and answer not in ("left", "right"):
        pool = [*DIRECTIONS, STILL]
    elif any(answer in row for row in PLACES):
        pool = [p for row in PLACES for p in row]
    elif answer == NOTHING or answer.startswith(("a ", "an ")):
        pool = [article(name(rng.randrange(len(COLOURS)), rng.randrange(len(SHAPES)))) for _ in range(6)]
    else:
        return None
    pool = [p for p in dict.fromkeys(pool) if p != answer]
    rng.shuffle(pool)
    return pool


def choices(rng: random.Random, question: Question) -> tuple[str, ...]:
    """Two to four options for an open question, its answer among them; none where it suits none."""
    pool = _distractors(rng, question.answer)
    if pool is None:
        return ()
    if question.kind == "direction" and question.answer in ("left", "right"):
        pool = [p for p in (*DIRECTIONS, STILL) if p != question.answer]
        rng.shuffle(pool)
    options = [question.answer, *pool[: rng.choice((1, 2, 2, 3))]]
    rng.shuffle(options)
    return tuple(options)


def _multiple_choice(rng: random.Random, scene: Scene, now: int, *, letter: bool, split: Split) -> Question | None:
    """An open question with its options named behind it.

    Answered with the words of an option. Where the question wants a letter, the words come first
    and the letter behind them, since finding the letter takes knowing the answer.
    """
    kind = rng.choice(CHOICE_KINDS)
    base = ask(rng, scene, now, kind, split=split)
    if base is None:
        return None
    options = choices(rng, base)
    if not options:
        return None
    text = base.text
    letters = "ABCD"
    mark = rng.choice(("{}) ", "{}: ", "({}) ", "{}. "))
    lettered = " ".join(mark.format(letters[i]) + option for i, option in enumerate(options))
    if letter:
        asking = rng.choice(
            (" Answer with the letter.", " Which letter is right?", " Give the letter.", " Name the letter.")
        )
        text = f"{text} {lettered}{asking}"
        answer = f"{base.answer} ({letters[options.index(base.answer)]})"
        return Question("letter", text, answer, tuple(options))
    if rng.random() < 0.3:
        text = f"{text} {lettered}"
    else:
        opening = rng.choice(("Options: ", "Options: ", "Choose: ", "Is it "))
        listed = ", ".join(options[:-1]) + f" or {options[-1]}"
        text = f"{text} {opening}{listed}{'?' if opening == 'Is it ' else '.'}"
    return Question("mcq", text, base.answer, tuple(options))


def ask(rng: random.Random, scene: Scene, now: int, kind: str, *, split: Split = "trained") -> Question | None:
    """A question of a kind as of frame ``now``; None where the scene has no clear answer or the split no wording."""
    if kind in ("mcq", "letter"):
        return _multiple_choice(rng, scene, now, letter=kind == "letter", split=split)
    if not can_word(kind, split):
        return None
    if kind == "offtopic" and rng.random() < 0.5:
        return _strange(rng, split=split)
    draft = DRAFTS[kind](rng, scene, now)
    if draft is None:
        return None
    slots, answer, about = draft
    subject = next((i for i, t in enumerate(scene.tracks) if t is about), -1)
    return Question(kind, word(rng, kind, slots, split=split), answer, subject=subject)


def follow_up(rng: random.Random, scene: Scene, now: int, subject: int, *, split: Split = "trained") -> Question | None:
    """A question about "it", the object of the turn before; None where it has no clear answer."""
    if subject < 0 or not scene.tracks[subject].visible(now):
        return None
    track = scene.tracks[subject]
    way, where = truth.motion(track, now), truth.place(track, now)
    kind = rng.choice(("follow_where", "follow_direction"))
    heading = None if way is None else DIRECTIONS[way] if way >= 0 else STILL
    answer = heading if kind == "follow_direction" else where
    if answer is None:
        return None
    return Question(kind, word(rng, kind, {}, split=split), answer, subject=subject)
