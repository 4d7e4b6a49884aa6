"""The camera of a soak: hands over scenes, spoils some of it, and keeps books that the engine knows nothing of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from stream_vl_ros.bench.soak_script import PERIOD_NS, Part, spoilt
from stream_vl_ros.bench.soak_truth import Truth
from stream_vl_ros.engine import EngineRunner
from stream_vl_ros.engine.stream import Picture
from stream_vl_ros.errors import FrameError
from stream_vl_ros.world.scene import Scene

TWIN_EVERY = 8
SPOILT_AT = 20


@dataclass(slots=True)
class Handed:
    """Frames as the camera counts them.

    Attributes:
        received: handed over, unusable ones included.
        twins: that came too soon after the one before for the cadence.
        drops: unusable, by reason.
        gaps, back: jumps of the stamps.
    """

    received: int = 0
    twins: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    back: int = 0


class Camera:
    """Pushes frame after frame into a runner."""

    def __init__(self, runner: EngineRunner, truth: Truth) -> None:
        self.handed = Handed()
        self._runner, self._truth = runner, truth

    def push(self, scene: Scene, picture: np.ndarray, frame: int, stamp_ns: int, part: Part) -> None:
        """A frame of a scene, with what comes before and after it."""
        if part.spoil and frame == SPOILT_AT:
            self._spoil(picture, stamp_ns)
        self._truth.show(stamp_ns, scene, frame)
        self._hand(picture, stamp_ns)
        if frame % TWIN_EVERY == 1:
            self._hand(picture, stamp_ns + PERIOD_NS // 4)
            self.handed.twins += 1

    def _hand(self, picture: Picture, stamp_ns: int) -> None:
        self._runner.push(picture, stamp_ns)
        self.handed.received += 1

    def _spoil(self, picture: np.ndarray, stamp_ns: int) -> None:
        for i, (reason, broken) in enumerate(spoilt(picture).items()):
            # In the next frame's slot, a little early: it is looked at, and its place stays free.
            self._hand(broken, stamp_ns - PERIOD_NS // 20 + i)
            self.handed.drops[reason] += 1
        self._hand(picture, stamp_ns - PERIOD_NS - PERIOD_NS // 2)
        self.handed.drops["stamp_backwards"] += 1
        self._runner.reject(FrameError("unknown_encoding", "an image that is no image"))
        self.handed.received += 1
        self.handed.drops["unknown_encoding"] += 1
