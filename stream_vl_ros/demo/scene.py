"""What happens in the demo recording.

A red circle moves to the right and leaves at 12 s; a blue square comes at 8 s and turns yellow at 20 s; a green
triangle comes at 16 s. 24 seconds at 4 frames a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_vl_ros.world.render import render
from stream_vl_ros.world.scene import Scene, Track
from stream_vl_ros.world.things import COLOURS, DIRECTIONS, SHAPES

FPS = 4
SECONDS = 24
SIDE = 112
"""Height and width, pixels."""

SEED = 7
"""Background, exposure and noise of the rendered frames follow from this."""


def _frame(seconds: float) -> int:
    return round(seconds * FPS)


def _standing(colour: str, shape: str, centre: tuple[float, float], seconds: tuple[float, float]) -> Track:
    first, end = _frame(seconds[0]), _frame(seconds[1])
    length = end - first
    return Track(
        COLOURS.index(colour),
        SHAPES.index(shape),
        radius=0.13,
        first=first,
        end=end,
        xs=[centre[0]] * length,
        ys=[centre[1]] * length,
    )


def demo_scene() -> Scene:
    """The scene, frame by frame."""
    end = SECONDS + 1.0

    circle = _standing("red", "circle", (0.0, 0.3), (0.0, 12.0))
    frames = len(circle.xs)
    circle.xs = [0.15 + 0.7 * i / (frames - 1) for i in range(frames)]
    circle.direction = DIRECTIONS.index("right")
    circle.move_from, circle.move_until = 0, frames - 1

    square = _standing("blue", "square", (0.72, 0.75), (8.0, end))
    square.new_colour, square.change_at = COLOURS.index("yellow"), _frame(20.0)

    triangle = _standing("green", "triangle", (0.2, 0.22), (16.0, end))

    tracks = [circle, square, triangle]
    for track in tracks:
        # Objects that stay are told from those that leave by an end beyond the clip, but are drawn inside it only.
        shown = min(track.end, SECONDS * FPS) - track.first
        track.xs, track.ys = track.xs[:shown], track.ys[:shown]
    return Scene(SECONDS * FPS, float(FPS), SIDE, SIDE, tracks)


def demo_clip(end: float = SECONDS) -> tuple[NDArray[np.uint8], list[float]]:
    """The pictures of the recording up to `end` seconds, uint8 (frames, height, width, 3) in RGB, and their seconds."""
    scene = demo_scene()
    frames = min(scene.frames, _frame(end))
    return render(scene, SEED)[:frames], [scene.seconds(i) for i in range(frames)]
