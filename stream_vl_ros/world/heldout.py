"""The held-out evaluation set: a generator with a fixed seed, that training never draws from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stream_vl_ros.world.questions import KINDS, Question, ask
from stream_vl_ros.world.render import render
from stream_vl_ros.world.scene import FRAME_RATES, Scene, sample_scene
from stream_vl_ros.world.wordings import Split


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip and questions about it as of its last frame."""

    scene: Scene
    seed: int
    questions: tuple[Question, ...]

    def frames(self) -> np.ndarray:
        """Its pictures, uint8 [frames, height, width, 3]."""
        return render(self.scene, self.seed)

    def stamps(self) -> list[float]:
        """When each frame was taken, in seconds."""
        return [self.scene.seconds(i) for i in range(self.scene.frames)]


def heldout(
    seed: int,
    n: int,
    *,
    frames: int = 16,
    size: tuple[int, int] = (112, 112),
    split: Split = "trained",
    kinds: Sequence[str] = KINDS,
    fps: float | None = None,
) -> Iterator[Clip]:
    """``n`` clips of a length, each with one question of every kind that has a clear answer.

    Scenes depend on ``seed``, ``frames`` and the aspect ratio of ``size`` (height, width in pixels)
    alone; ``split`` changes how questions are worded.
    """
    for i in range(n):
        key = f"held out/{seed}/{frames}/{i}"
        rng = random.Random(key)
        rate = fps or rng.choice(FRAME_RATES)
        scene = sample_scene(rng, frames, rate, *size)
        questions = []
        for kind in kinds:
            # A stream of its own for each question, so that one wording more or less moves no other.
            q = ask(random.Random(f"{key}/{kind}"), scene, frames - 1, kind, split=split)
            if q is not None:
                questions.append(q)
        yield Clip(scene, random.Random(f"{key}/picture").randrange(2**31), tuple(questions))
