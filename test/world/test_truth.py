"""The ground truth of scenes made by hand, and that it never looks ahead."""

from __future__ import annotations

import copy
import random

import pytest

from stream_vl_ros.world import truth
from stream_vl_ros.world.questions import DRAFTS, KINDS, UNKNOWN, ask, choices
from stream_vl_ros.world.scene import Scene, Track, sample_scene

RED, GREEN, BLUE = 0, 1, 2
CIRCLE, SQUARE, TRIANGLE = 0, 1, 2


def track(colour: int, shape: int, first: int, end: int, frames: int = 20, x: float = 0.2, y: float = 0.2) -> Track:
    n = min(end, frames) - first
    return Track(colour, shape, 0.1, first, end, [x] * n, [y] * n)


@pytest.fixture
def scene() -> Scene:
    """A red circle (frames 0-7), a blue square (4 on), a green triangle that goes right (10 on)."""
    mover = track(GREEN, TRIANGLE, 10, 30, y=0.8)
    mover.direction, mover.move_from, mover.move_until = 1, 10, 16
    mover.xs = [0.2 + 0.08 * min(i, 6) for i in range(10)]
    return Scene(20, 2.0, 112, 112, [track(RED, CIRCLE, 0, 8), track(BLUE, SQUARE, 4, 30, x=0.8), mover])


def answer(scene: Scene, now: int, kind: str) -> set[str]:
    found = set()
    for seed in range(60):
        drafted = DRAFTS[kind](random.Random(seed), scene, now)
        if drafted is not None:
            found.add(f"{drafted[0].get('o', drafted[0].get('s', ''))}: {drafted[1]}")
    return found


def test_what_is_visible(scene: Scene) -> None:
    assert answer(scene, 2, "visible") == {": a red circle"}
    assert answer(scene, 5, "visible") == {": a red circle, a blue square"}
    assert answer(scene, 8, "visible") == {": a blue square"}


def test_order_of_appearance(scene: Scene) -> None:
    assert answer(scene, 12, "first") == {": a red circle"}
    assert answer(scene, 9, "last") == {": a blue square"}
    assert answer(scene, 12, "last") == {": a green triangle"}
    assert {"blue square: a red circle", "green triangle: a blue square", "red circle: nothing"} <= answer(
        scene, 12, "before"
    )
    assert {"red circle: a blue square", "blue square: a green triangle", "green triangle: nothing"} <= answer(
        scene, 12, "after"
    )


def test_two_first_objects_have_no_order(scene: Scene) -> None:
    scene.tracks.insert(0, track(BLUE, CIRCLE, 0, 30, y=0.5))
    assert truth.first_seen(scene, 12) is None
    assert truth.neighbour(scene, 12, scene.tracks[0], 1) is None


def test_what_is_gone(scene: Scene) -> None:
    assert truth.last_gone(scene, 7) is False
    assert answer(scene, 8, "gone") == {": a red circle"}
    assert "red circle: no" in answer(scene, 8, "still_there")
    assert "red circle: yes" in answer(scene, 8, "left_view")
    assert "blue square: no" in answer(scene, 8, "left_view")


def test_motion_and_place(scene: Scene) -> None:
    mover = scene.tracks[2]
    assert truth.motion(mover, 13) == 1
    assert truth.motion(mover, 17) is None
    assert truth.motion(scene.tracks[1], 13) == -1
    assert truth.place(scene.tracks[1], 13) == "top right"
    assert truth.place(track(RED, CIRCLE, 0, 9, x=0.34), 3) is None


def test_seconds(scene: Scene) -> None:
    assert {"blue square: at second 2", "green triangle: at second 5"} <= answer(scene, 12, "when")
    assert answer(scene, 13, "ago") >= {"green triangle: 1 second", "blue square: 4 seconds"}


def test_colour_change(scene: Scene) -> None:
    square = scene.tracks[1]
    square.new_colour, square.change_at = RED, 9
    assert answer(scene, 12, "color_change") >= {"square: from blue to red"}
    assert "square: from blue to red" not in answer(scene, 8, "color_change")


def test_answers_do_not_depend_on_what_comes_later() -> None:
    rng = random.Random(5)
    asked = 0
    for i in range(150):
        whole = sample_scene(rng, 32, 2.0)
        now = rng.randrange(1, 30)
        cut = copy.deepcopy(whole)
        cut.frames = now + 1
        cut.tracks = [t for t in cut.tracks if t.first <= now]
        for t in cut.tracks:
            if t.end <= now:
                continue
            t.end = now + 2
            t.xs, t.ys = t.xs[: now + 1 - t.first], t.ys[: now + 1 - t.first]
            if t.new_colour >= 0 and t.change_at > now:
                t.new_colour = -1
        for kind in KINDS:
            if kind in ("where", "direction", "mcq", "letter"):
                # These may ask about an object that never comes, which is chosen to be none of the clip's.
                continue
            a = ask(random.Random(f"{i}{kind}"), whole, now, kind)
            b = ask(random.Random(f"{i}{kind}"), cut, now, kind)
            assert (a and (a.text, a.answer)) == (b and (b.text, b.answer))
            asked += a is not None
    assert asked > 1500


def test_every_kind_is_asked_and_options_hold_the_answer() -> None:
    rng = random.Random(6)
    found: dict[str, set[str]] = {k: set() for k in KINDS}
    for _ in range(300):
        scene = sample_scene(rng, rng.choice((2, 8, 32, 64)), 2.0)
        for kind in KINDS:
            q = ask(rng, scene, scene.frames - 1, kind)
            if q is None:
                continue
            assert q.text and q.answer
            assert "{" not in q.text and "[" not in q.text
            found[kind].add(q.answer)
            if kind == "mcq":
                assert q.answer in q.choices and all(c in q.text for c in q.choices)
            offered = choices(rng, q)
            assert not offered or (q.answer in offered and len(set(offered)) == len(offered))
    assert found.pop("offtopic") == {UNKNOWN}
    assert all(len(answers) >= 2 for answers in found.values()), {k: v for k, v in found.items() if len(v) < 2}
