"""Pictures agree with the ground truth, and come out alike for the same seed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from stream_vl_ros.world.render import render
from stream_vl_ros.world.scene import Scene, Track, sample_scene
from stream_vl_ros.world.things import COLOURS, MAX_VISIBLE, RGB


def still(colour: int, shape: int, first: int, end: int, frames: int, x: float = 0.5, y: float = 0.5) -> Track:
    n = min(end, frames) - first
    return Track(colour, shape, 0.12, first, end, [x] * n, [y] * n)


def nearest_colour(pixels: np.ndarray) -> int:
    """The colour whose direction from mid-grey fits best: exposure varies, hue much less."""
    mean = pixels.reshape(-1, 3).mean(0) / 255
    return int(np.argmin([np.abs(mean - np.array(rgb)).sum() for rgb in RGB]))


def test_the_same_seed_draws_the_same_pictures() -> None:
    scene = sample_scene(random.Random(1), 6, 2.0)
    assert np.array_equal(render(scene, 7), render(scene, 7))
    assert not np.array_equal(render(scene, 7), render(scene, 8))


@pytest.mark.parametrize("size", [(112, 112), (84, 140), (480, 640), (90, 122)])
def test_pictures_have_the_size_of_the_scene(size: tuple[int, int]) -> None:
    scene = sample_scene(random.Random(1), 2, 2.0, *size)
    frames = render(scene, 0)
    assert frames.shape == (2, *size, 3)
    assert frames.dtype == np.uint8


@pytest.mark.parametrize("colour", range(len(COLOURS)), ids=COLOURS)
def test_an_object_shows_its_colour_where_it_is(colour: int) -> None:
    right = 0
    for seed in range(12):
        x, y = random.Random(seed).uniform(0.2, 0.8), random.Random(-seed).uniform(0.2, 0.8)
        frame = render(Scene(1, 1.0, 112, 112, [still(colour, 1, 0, 2, 1, x, y)]), seed)[0]
        cy, cx = round(y * 112), round(x * 112)
        right += nearest_colour(frame[cy - 3 : cy + 3, cx - 3 : cx + 3]) == colour
    assert right >= 10


def test_an_object_is_drawn_in_its_frames_alone() -> None:
    scene = Scene(8, 2.0, 112, 112, [still(0, 1, 2, 5, 8)])
    empty = Scene(8, 2.0, 112, 112, [])
    differs = (render(scene, 3).astype(int) - render(empty, 3)).reshape(8, -1)
    # The same noise and background: nothing but the object can differ.
    assert [bool(np.abs(d).max() > 20) for d in differs] == [False, False, True, True, True, False, False, False]


def test_a_colour_change_is_drawn_from_its_frame_on() -> None:
    track = still(0, 1, 0, 9, 8)
    track.new_colour, track.change_at = 2, 5
    frames = render(Scene(8, 2.0, 112, 112, [track]), 3)
    seen = [nearest_colour(f[53:59, 53:59]) for f in frames]
    assert seen == [0] * 5 + [2] * 3


def test_no_frame_shows_more_objects_than_it_may() -> None:
    rng = random.Random(3)
    for _ in range(300):
        frames = rng.randint(1, 64)
        scene = sample_scene(rng, frames, 2.0)
        assert all(len(scene.visible(f)) <= MAX_VISIBLE for f in range(frames))
        for t in scene.tracks:
            assert len(t.xs) == len(t.ys) == min(t.end, frames) - t.first > 0
            assert all(0.1 < v < 0.9 for v in (*t.xs, *t.ys))
