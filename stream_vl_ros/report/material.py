"""What is looked at: clips of the toy world, whose questions have answers, noise, or real footage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stream_vl_ros.bench.accuracy_score import is_right
from stream_vl_ros.engine import LoadedModel, open_video
from stream_vl_ros.errors import VideoError
from stream_vl_ros.report.sides import Asked, Clip
from stream_vl_ros.world.heldout import heldout

LONGEST = 64
"""Frames of the longest clips of the toy world; longer ones are one of these again and again."""

# One kind in three of them: of what is there now, of what was, and one long answer, for the time per token.
KINDS = ("visible", "count", "first", "last", "ever", "describe")
# Of the last scene alone: also true at the end of a clip that repeats.
LAST_KINDS = ("visible", "count", "color_of_shape", "shape_of_color")
FPS = 2.0


@dataclass(frozen=True, slots=True)
class Material:
    """Clips for a model.

    Attributes:
        known: whether answers mean something: clips of the toy world then, noise otherwise.
        size: height and width of pictures.
        seed: of everything.
    """

    known: bool
    size: tuple[int, int]
    seed: int

    def clips(
        self, count: int, frames: int, *, fps: float = FPS, size: tuple[int, int] | None = None
    ) -> Iterator[Clip]:
        """`count` clips of `frames` frames."""
        size = size or self.size
        if not self.known:
            for i in range(count):
                yield self.noise(frames, fps, size, self.seed + i)
            return
        kinds = KINDS if frames <= LONGEST else LAST_KINDS
        for clip in heldout(self.seed, count, frames=min(frames, LONGEST), size=size, kinds=kinds, fps=fps):
            pictures = clip.frames()
            asked = tuple(Asked(q.text, partial(is_right, q)) for q in clip.questions)
            if frames > LONGEST:
                # The clip again and again, to its end: what is asked is of its last scene.
                pictures = np.concatenate([pictures] * -(-frames // LONGEST))[-frames:]
            yield Clip(pictures, tuple(i / fps for i in range(frames)), asked, "toy world")

    def noise(self, frames: int, fps: float, size: tuple[int, int], seed: int) -> Clip:
        """Pictures of which none repeats and nothing can be said."""
        some = np.random.default_rng(seed).integers(0, 256, (min(frames, 16), *size, 3), dtype=np.uint8)
        pictures = np.concatenate([some] * -(-frames // len(some)))[:frames]
        questions = (Asked("What did the robot arm pick up?"), Asked("Describe what you see."))
        return Clip(pictures, tuple(i / fps for i in range(frames)), questions, "noise")


def footage(model: LoadedModel, path: Path, frames: int, fps: float = FPS) -> Clip:
    """The beginning of a video file, scaled to what the model takes.

    Raises:
        VideoError: if it cannot be read, or has too few frames.
    """
    file = open_video(path, fps=fps)
    pictures = []
    for pixels, _ in file:
        pictures.append(pixels)
        if len(pictures) == frames:
            break
    if len(pictures) < 4:
        raise VideoError(f"Video {str(path)!r} gives {len(pictures)} frames at {fps:g} fps: at least 4 are needed")
    stamps = tuple(i / file.fps for i in range(len(pictures)))
    return Clip(np.stack(pictures), stamps, (Asked("What do you see?"),), path.name)
