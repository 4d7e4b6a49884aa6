"""What happens around which scene of a soak: the same round of events over and over, known beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from stream_vl_ros.engine import RunnerConfig, StreamConfig, Watch
from stream_vl_ros.engine.stream import Picture
from stream_vl_ros.engine.units import NANOSECONDS

ROUND = 8
"""Scenes after which everything has happened once."""

FPS = 2.0
PERIOD_NS = round(NANOSECONDS / FPS)
GAP_NS = 300 * NANOSECONDS
BEGIN_NS = 1000 * NANOSECONDS
MEMORY = "dock"
MOST = 16
"""Questions at once: those about the last seconds, those of the callers, and some of a caller that overdoes it."""

USUAL = StreamConfig(target_fps=FPS, eviction="importance", budget_seconds=24.0)
OTHER = StreamConfig(target_fps=FPS, eviction="importance", budget_seconds=20.0, chunk_frames=8, recent_share=0.4)
# Nothing is flushed by the clock on the wall, so chunks are the same on any machine.
RUNNER = RunnerConfig(queue_policy="block", queue_frames=16, flush_after=3600.0, max_questions=MOST)
OTHER_RUNNER = RunnerConfig(
    queue_policy="block", queue_frames=8, flush_after=3600.0, max_questions=MOST, decode_share=0.3
)
PASSING = Watch("passing", "Is there a star?")
"""A standing question that is asked during some scenes alone."""


@dataclass(frozen=True, slots=True)
class Part:
    """One scene's part of a round.

    Attributes:
        jump: how stamps jump in front of the scene, if they do.
        memory: what is done with the memory under a name in front of it.
        other: whether other settings count during it.
        remember: whether a turn is remembered behind it.
        spoil: whether frames that cannot be used come in between.
        passing: whether `PASSING` is asked during it.
    """

    jump: Literal["", "gap", "back"] = ""
    memory: Literal["", "keep", "recall", "discard"] = ""
    other: bool = False
    remember: bool = False
    spoil: bool = False
    passing: bool = False


PARTS = (
    Part(spoil=True),
    Part(memory="keep"),
    Part(jump="gap"),
    Part(remember=True),
    Part(memory="recall"),
    Part(other=True, passing=True),
    Part(jump="back", passing=True),
    Part(memory="discard", spoil=True),
)


def part(number: int) -> Part:
    """What happens around scene `number`."""
    return PARTS[number % ROUND]


def begins(number: int, last_ns: int) -> int:
    """Stamp of the first frame of a scene, after the last one's. No other frame of a soak ever has it."""
    # A few nanoseconds tell the scenes apart, and are nothing to the cadence.
    if part(number).jump == "back":
        return BEGIN_NS + number
    later = PERIOD_NS + (GAP_NS if part(number).jump == "gap" else 0)
    return last_ns // 1000 * 1000 + later + number if last_ns else BEGIN_NS + number


def _broken() -> np.ndarray:
    raise ValueError("a picture that cannot be decoded")


def spoilt(picture: np.ndarray) -> dict[str, Picture]:
    """Pictures that cannot be used, by the reason for which they are dropped."""
    return {
        "bad_array": picture.astype(np.float32),
        "zero_size": picture[:0],
        "aspect_ratio": np.zeros((1, 400, 3), np.uint8),
        "decode_error": _broken,
    }
