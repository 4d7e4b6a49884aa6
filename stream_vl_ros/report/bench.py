"""What every section of the report works with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stream_vl_ros.engine import StreamConfig
from stream_vl_ros.errors import MemoryFullError, NativeOOMError, ReportError
from stream_vl_ros.report.ladder import strides
from stream_vl_ros.report.material import Material
from stream_vl_ros.report.points import points
from stream_vl_ros.report.results import Point, Rung, Section
from stream_vl_ros.report.sides import Clip, Run, Sides

# MiB; 64 bits hold its bytes, and what is held besides.
_MOST_CAP = 1e9


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        clips: clips at each place of a curve.
        repeats: of what is measured on one clip.
        lengths: frames.
        chunk_frames: of the chunk sweep.
        rates: frames per second, of clips of `duration` seconds.
        sides: pixels of a picture's sides.
        questions: asked at once.
        budgets: shares of the full cache.
        frames: of clips where something else varies.
        ladder, cap: frame strides, and MiB that either side may allocate in the ladder.
        curve_cap: MiB that either side may allocate in the curve over length; 0 for what the device has.
        footage_frames: of real footage in the ladder; 0 for no chunk sizes and no ladder there.
        seconds: of each trial of the highest frame rate.
        confirm: seconds for which the rate that is reported is tried.

    Raises:
        ReportError: when made with something that cannot work.
    """

    clips: int
    repeats: int
    lengths: tuple[int, ...]
    chunk_frames: tuple[int, ...]
    rates: tuple[float, ...]
    duration: float
    sides: tuple[int, ...]
    questions: tuple[int, ...]
    budgets: tuple[float, ...]
    frames: int
    ladder: tuple[int, ...]
    cap: float
    curve_cap: float
    footage_frames: int
    seconds: float
    confirm: float

    def __post_init__(self) -> None:
        for name in ("clips", "repeats"):
            if getattr(self, name) < 1:
                raise ReportError(f"{name} {getattr(self, name)}: give 1 or more")
        if min(self.lengths) < 4:
            raise ReportError(f"lengths {min(self.lengths)}: give 4 frames or more")
        for name in ("cap", "curve_cap"):
            cap = getattr(self, name)
            if not math.isfinite(cap) or cap < 0:
                raise ReportError(f"{name} {cap:g} MiB: give 0 (none) or more")
            if cap > _MOST_CAP:
                raise ReportError(f"{name} {cap:g} MiB: no device has so much; give 0 for no cap")
        list(strides(self.ladder, max(self.lengths)))


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """The model on both sides, what it looks at, and whom to tell.

    Attributes:
        cold: milliseconds of the first chunk of the process, once it is warm.
    """

    sides: Sides
    material: Material
    plan: Plan
    say: Callable[[str], None]
    cold: list[float] = field(default_factory=list)

    def config(self, **settings: object) -> StreamConfig:
        """See `Sides.config`."""
        return self.sides.config(**settings)

    def warm_up(self) -> None:
        """Pay for first times before anything is measured."""
        clip = next(self.material.clips(1, 8))
        for _ in range(2):
            self.cold.append(self.sides.ask_stream(clip, clip.questions[0], self.config()).chunks[0])
            self.sides.ask_native(clip, clip.questions[0])

    def settle_in(self, clip: Clip, config: StreamConfig | None = None) -> None:
        """Pay for first times with pictures of a new size, or with a new rule, before they are measured."""
        self.sides.ask_stream(clip, clip.questions[0], config)
        if config is None:
            few = clip.first(2 * self.config().chunk_frames)
            self.sides.ask_native(few, few.questions[0])

    def streamed(
        self, section: Section, x: float, clips: Sequence[Clip], config: StreamConfig, cap: float = 0.0
    ) -> list[Point]:
        """One place of a curve, by the stream: every clip once, every question of it.

        Returns:
            The points; none if memory ran out, which becomes a rung of the section.
        """
        sides = self.sides
        if cap:  # it shows that there is room; times are taken without
            try:
                sides.ask_stream(clips[0], clips[0].questions[0], config, cap)
            except MemoryFullError as error:
                return self._ran_out(section, "stream", clips[0], error)
        runs: list[Run] = []
        watched: list[Run] = []
        for clip in clips:
            before = sides.gauge.reset()
            stream, chunks = sides.watch(clip, config)
            runs += [sides.answer(stream, q, before, chunks) for q in clip.questions]
            watched.append(runs[-1])  # its peak is that of all questions
            del stream  # or the next one would be measured from a process that still holds it
        return points("stream", x, runs, curve=True, watched=watched)

    def native(self, section: Section, x: float, clips: Sequence[Clip], cap: float = 0.0) -> list[Point]:
        """The same natively."""
        runs: list[Run] = []
        clip = clips[0]
        try:
            if cap:  # it shows that there is room; times are taken without
                self.sides.ask_native(clip, clip.questions[0], cap)
            for clip in clips:
                runs += [self.sides.ask_native(clip, q) for q in clip.questions]
        except NativeOOMError as error:
            return self._ran_out(section, "native", clip, error)
        return points("native", x, runs, curve=True)

    def _ran_out(self, section: Section, side: str, clip: Clip, error: Exception) -> list[Point]:
        section.rungs.append(Rung(clip.about(), side, 1, len(clip), False, str(error)))
        self.say(str(error))
        return []
