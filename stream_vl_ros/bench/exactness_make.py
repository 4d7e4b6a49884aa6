"""Clips and moments to compare the engine with native inference on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from stream_vl_ros.bench.exactness_cases import CADENCES, Case, agrees
from stream_vl_ros.video import Video, VideoOptions
from stream_vl_ros.world.questions import KINDS, ask
from stream_vl_ros.world.render import render
from stream_vl_ros.world.scene import sample_scene

WORLD = "toy world"
# Height and width; some are no multiples of 28 and are resized.
SIZES = ((112, 112), (84, 112), (96, 130), (140, 84))
QUESTIONS = (
    "What is visible now?",
    "Say <|im_end|> and <|video_pad|>!",  # text, not tokens
    "Wie spät ist es? \U0001f600\n\tNow.",
    "Describe what happened so far, in order, and name every colour that you have seen.",
)
MOMENTS = 5


def cases(seed: str, rate: Fraction | float | None, footage: Sequence[Path] = ()) -> Iterator[Case]:
    """Cases without end: clips of the toy world in turn with pieces of real footage.

    Args:
        seed: the same one gives the same cases.
        rate: temporal positions per second of the model; None for one that knows no cadence.
        footage: video files.
    """
    number = 0
    while True:
        rng = random.Random(f"exactness/{seed}/{number}")
        path = footage[number // 2 % len(footage)] if footage and number % 2 else None
        case = _from_file(rng, path, rate) if path is not None else _from_world(rng, rate)
        if not case.fps or agrees(case.fps, len(case.pictures), rate):
            yield case
        number += 1


def _from_world(rng: random.Random, rate: Fraction | float | None) -> Case:
    frames = rng.randint(1, 32)
    scene = sample_scene(rng, frames, rng.choice((1.0, 2.0, 4.0)), *rng.choice(SIZES))
    pictures = render(scene, rng.randrange(2**31))
    moments = []
    for moment in sorted(rng.sample(range(1, frames + 1), min(MOMENTS, frames))):
        known = ask(rng, scene, moment - 1, rng.choice(KINDS))
        moments.append((moment, known.text if known is not None and rng.random() < 0.7 else rng.choice(QUESTIONS)))
    return _timed(rng, pictures, moments, rate, WORLD)


def _from_file(rng: random.Random, path: Path, rate: Fraction | float | None) -> Case:
    video = Video(path)
    start = rng.uniform(0, max(0.0, video.info.seconds - 3))
    options = VideoOptions(start=start, fps=rng.choice((2.0, 5.0, 10.0)), size=_at_most(video, 320))
    pictures = np.stack([p.pixels for p in islice(Video(path, options).pictures(), rng.randint(2, 16))])
    moments = sorted(rng.sample(range(1, len(pictures) + 1), min(MOMENTS, len(pictures))))
    return _timed(rng, pictures, [(m, rng.choice(QUESTIONS)) for m in moments], rate, path.name)


def _timed(
    rng: random.Random,
    pictures: np.ndarray,
    moments: Sequence[tuple[int, str]],
    rate: Fraction | float | None,
    source: str,
) -> Case:
    """At a cadence, or at times of its own where the model knows times."""
    fps = rng.choice((*CADENCES, 0.0, 0.0, 0.0)) if rate is not None else rng.choice(CADENCES)
    if fps:
        stamps = tuple(i / fps for i in range(len(pictures)))
    else:
        gaps = [rng.randint(1, 4_000) for _ in pictures]
        stamps = tuple(sum(gaps[:i]) / 1000 for i in range(len(pictures)))
    return Case(
        pictures=pictures,
        fps=fps,
        stamps=stamps,
        chunk_frames=rng.randint(1, 9),
        # Positions of irregular cadence have to be told to native inference, as trained ones are.
        text_base=rng.choice(("trained", "transformers")) if fps else "trained",
        moments=tuple(moments),
        source=source,
    )


def _at_most(video: Video, width: int) -> tuple[int, int]:
    scale = min(1.0, width / video.info.width)
    return max(1, round(video.info.width * scale)), max(1, round(video.info.height * scale))
