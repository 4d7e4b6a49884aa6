"""Which frames of a camera are kept, and when they happened on the video's time axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.errors import FrameError

# A camera at exactly the target rate jitters by some milliseconds around it. A frame may come this part of a
# slot early and still be taken for the slot it was meant for; otherwise every second one would be skipped.
EARLY_SLOT = Fraction(1, 10)
# But never as much as this part of the time since the frame before: a faster camera has a better one coming.
EARLY_INTERVAL = Fraction(1, 2)


@cache
def _rate(fps: float) -> Fraction:
    # Rates such as 29.97 are meant as decimals; tiny ones keep their digits too.
    return Fraction(fps).limit_denominator(max(10_000, math.ceil(10_000 / fps)))


@dataclass(slots=True)
class FrameSampler:
    """Keeps `target_fps` frames per second by stamp, never by the clock on the wall.

    The time axis is cut into slots of 1 / target_fps from the first frame on. The first frame of a slot is
    kept and placed at the slot's start, so that a jittering camera gets the exact positions of a steady one;
    slots without a frame (a pause) stay empty. With `target_fps` 0 every frame is kept at its own stamp.
    """

    target_fps: float
    longest_gap_ns: int = 24 * 3600 * NANOSECONDS
    _origin_ns: int | None = None
    _last_ns: int = 0
    _last_slot: int = -1

    def place(self, stamp_ns: int) -> int | None:
        """Time of this frame since the first one in nanoseconds, or None if it is to be skipped.

        Raises `FrameError` with reason ``stamp_backwards`` if the stamp is not later than that of the frame before, or
        ``stamp_jump`` if it is more than `longest_gap_ns` later. Nothing changes then.
        """
        if self._origin_ns is None:
            self._origin_ns = self._last_ns = stamp_ns
            self._last_slot = 0
            return 0
        if stamp_ns <= self._last_ns:
            raise FrameError(
                "stamp_backwards",
                f"header stamp {stamp_ns / NANOSECONDS:.6f} s is not later than the one before, "
                f"{self._last_ns / NANOSECONDS:.6f} s: the frame is dropped; if a bag was restarted or the clock "
                "was set back, call ~/reset",
            )
        interval = stamp_ns - self._last_ns
        if interval > self.longest_gap_ns:
            raise FrameError(
                "stamp_jump",
                f"header stamp {stamp_ns / NANOSECONDS:.6f} s is {interval / NANOSECONDS:.0f} s after the one before, "
                f"more than the {self.longest_gap_ns / NANOSECONDS:.0f} s that the model has positions for: the frame "
                "is dropped; if the clock was set, call ~/reset",
            )
        self._last_ns = stamp_ns
        elapsed = stamp_ns - self._origin_ns
        if self.target_fps == 0:
            return elapsed
        fps = _rate(self.target_fps)
        early = min(EARLY_SLOT, EARLY_INTERVAL * interval * fps / NANOSECONDS)
        slot = int(elapsed * fps / NANOSECONDS + early)
        if slot <= self._last_slot:
            return None
        self._last_slot = slot
        return int(slot * NANOSECONDS / fps)
