"""How old what a question asks about is."""

from __future__ import annotations

import re

from stream_vl_ros.world import truth
from stream_vl_ros.world.questions import Question
from stream_vl_ros.world.scene import Scene, Track
from stream_vl_ros.world.things import COLOURS, SHAPES

PRESENT = ("color_of_shape", "shape_of_color", "visible", "count", "count_attr", "direction", "where", "describe")
"""Kinds that the present answers."""

PAST = ("first", "last", "before", "after", "when", "ago", "ever", "gone", "still_there", "left_view", "color_change")
"""Kinds that take memory. Those whose answer is that there was nothing have no age."""

_COLOUR = re.compile(rf"\b({'|'.join(COLOURS)})\b")
_SHAPE = re.compile(rf"\b({'|'.join(SHAPES)})")


def seconds_back(question: Question, scene: Scene, now: int | None = None) -> float | None:
    """Seconds from the oldest moment that the answer rests on to the frame `now`; None where there is none.

    `now` is the last frame of the scene unless it is given.

    That moment is an appearance for what asks for order or time, a change for what asks for one, and the last sight of
    an object for what asks whether it was there.
    """
    now = scene.frames - 1 if now is None else now
    if question.kind in PRESENT:
        return 0.0
    frame = _moment(question, scene, now)
    return None if frame is None else scene.seconds(now - frame)


def _moment(q: Question, scene: Scene, now: int) -> int | None:
    track: Track | bool | None
    if q.kind in ("first", "last"):
        track = truth.first_seen(scene, now) if q.kind == "first" else truth.last_seen(scene, now)
        return track.first if track else None
    if q.kind == "gone":
        track = truth.last_gone(scene, now)
        return track.end - 1 if track else None
    if q.kind in ("when", "ago"):
        named = _named(q.text, scene, now)
        return named[0].first if len(named) == 1 else None
    if q.kind == "color_change" and q.subject >= 0 and q.answer.startswith("from"):
        return scene.tracks[q.subject].change_at - 1
    if q.kind in ("before", "after"):
        named = _named(q.answer, scene, now)
        other = truth.neighbour(scene, now, named[0], 1 if q.kind == "before" else -1) if len(named) == 1 else None
        return min(named[0].first, other.first) if other else None
    if q.kind in ("ever", "still_there", "left_view"):
        ends = [min(t.end - 1, now) for t in _named(q.text, scene, now)]
        return max(ends, default=None)
    return None


def _named(text: str, scene: Scene, now: int) -> list[Track]:
    """Objects seen so far that the text can mean by colour, shape or both."""
    colour, shape = _COLOUR.search(text.lower()), _SHAPE.search(text.lower())
    if colour is None and shape is None:
        return []
    return [
        t
        for t in truth.seen(scene, now)
        if (colour is None or colour.group(1) in {COLOURS[t.colour], COLOURS[t.colour_at(now)]})
        and (shape is None or shape.group(1) == SHAPES[t.shape])
    ]
