"""Which frames of a camera are kept, and when they happened on the video's time axis."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

from stream_vl_ros.engine.time_jump import Jump
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.errors import FrameError

# A camera at exactly the target rate jitters by some milliseconds around it. A frame may come this part of a
# slot early and still be taken for the slot it was meant for; otherwise every second one would be skipped.
EARLY_SLOT = Fraction(1, 10)
# But never as much as this part of the time since the frame before: a faster camera has a better one coming.
EARLY_INTERVAL = Fraction(1, 2)
# Time between two frames where no cadence and no earlier pair says it: that of the models' own processors, 2 fps.
_STEP_NS = NANOSECONDS // 2


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

    Ask `jump` first: a frame without one goes to `place`, one with a jump to `begin`, `resume` or `place`.

    Attributes:
        target_fps: frames per second.
        max_gap_ns: time after a frame beyond which the next one is a jump; None if none is.
        jump_back_ns: time before a frame beyond which the next one is a jump; less is a frame out of order.
        span: number of the stretch of time that the newest frame is in; each has an axis of its own.
        restored: the stream went back to an earlier moment: the stamp of its last frame need not be near the next.
    """

    target_fps: float
    max_gap_ns: int | None = None
    jump_back_ns: int = NANOSECONDS
    span: int = 0
    restored: bool = False
    _first_ns: int | None = None  # stamp of the first frame since the last jump
    _last_ns: int = 0  # stamp of the newest frame, skipped ones included
    _origin_ns: int = 0  # stamp that lies at the start of `_origin_slot`
    _origin_slot: int = 0
    _base_ns: int = 0  # time of slot 0
    _last_slot: int = 0  # slot of the newest kept frame
    _time_ns: int = 0  # time of the newest kept frame
    _step_ns: int = _STEP_NS  # between the two newest kept frames

    def jump(self, stamp_ns: int) -> Jump | None:
        """How this stamp fails to go on from the one before; None if it does, or is merely out of order.

        A stamp that is not later than the first one since the last jump is never out of order, however short the time
        since then: so a short recording that begins anew is noticed.
        """
        if self._first_ns is None:
            return None
        late = stamp_ns - self._last_ns
        begins_anew = stamp_ns <= self._first_ns < self._last_ns
        if late < 0 and (-late > self.jump_back_ns or begins_anew or self.restored):
            return Jump("back", self._last_ns, stamp_ns)
        if self.max_gap_ns is not None and late > self.max_gap_ns:
            return Jump("gap", self._last_ns, stamp_ns)
        return None

    def place(self, stamp_ns: int) -> int | None:
        """Time of this frame on its span's axis in nanoseconds, or None if it is to be skipped.

        Raises `FrameError` with reason ``stamp_backwards`` if the stamp is not later than that of the frame before.
        Nothing changes then.
        """
        if self._first_ns is None:
            return self._start(stamp_ns)
        interval = stamp_ns - self._last_ns
        if interval <= 0:
            raise FrameError(
                "stamp_backwards",
                f"header stamp {stamp_ns / NANOSECONDS:.6f} s is not later than the one before, "
                f"{self._last_ns / NANOSECONDS:.6f} s: the frame is dropped; more than jump_back "
                f"({self.jump_back_ns / NANOSECONDS:g} s) earlier would be a jump of the clock",
            )
        elapsed = stamp_ns - self._origin_ns
        if self.target_fps == 0:
            return self._kept(stamp_ns, max(self._base_ns + elapsed, self._time_ns + 1))
        fps = _rate(self.target_fps)
        early = min(EARLY_SLOT, EARLY_INTERVAL * interval * fps / NANOSECONDS)
        slot = self._origin_slot + int(elapsed * fps / NANOSECONDS + early)
        if slot <= self._last_slot:
            self._seen(stamp_ns)
            return None
        self._last_slot = slot
        return self._kept(stamp_ns, self._time_of(slot))

    def begin(self, stamp_ns: int) -> int:
        """Begin a new span with this frame, at time 0. Returns that time."""
        self.span += 1
        return self._start(stamp_ns)

    def resume(self, stamp_ns: int) -> int:
        """Go on with this frame as if no time had passed: in the next slot. Returns its time.

        Without a cadence it follows as far behind the frame before as that one followed its own.
        """
        self._first_ns = self._origin_ns = stamp_ns
        if self.target_fps == 0:
            self._base_ns = self._time_ns + self._step_ns
            return self._kept(stamp_ns, self._base_ns)
        self._last_slot = self._origin_slot = self._last_slot + 1
        return self._kept(stamp_ns, self._time_of(self._last_slot))

    def paced(self, target_fps: float) -> FrameSampler:
        """One that keeps another number of frames per second, on the same time axis, from the newest kept frame on.

        It goes on as if that frame had been the first one of a cadence of its own: the next slots lie at whole
        multiples of 1 / target_fps behind it.
        """
        if target_fps == self.target_fps:
            return replace(self)
        past = self._time_ns - self._time_of(self._origin_slot)  # since the origin; of the slot, not of its frame
        return replace(
            self,
            target_fps=target_fps,
            _origin_ns=self._origin_ns + past,
            _base_ns=self._time_ns,
            _origin_slot=0,
            _last_slot=0,
        )

    def _start(self, stamp_ns: int) -> int:
        self._first_ns = self._origin_ns = stamp_ns
        self._origin_slot = self._last_slot = self._base_ns = self._time_ns = 0
        self._step_ns = _STEP_NS
        self._seen(stamp_ns)
        return 0

    def _kept(self, stamp_ns: int, time_ns: int) -> int:
        step, self._time_ns = time_ns - self._time_ns, time_ns
        if self.max_gap_ns is None or step <= self.max_gap_ns:
            self._step_ns = step
        self._seen(stamp_ns)
        return time_ns

    def _seen(self, stamp_ns: int) -> None:
        self._last_ns, self.restored = stamp_ns, False

    def _time_of(self, slot: int) -> int:
        if self.target_fps == 0:
            return self._base_ns
        return self._base_ns + int(slot * NANOSECONDS / _rate(self.target_fps))
