"""Answers about clips that were watched with different budgets and rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_vl_ros.bench.accuracy_score import is_right
from stream_vl_ros.bench.eviction_age import PAST, PRESENT, seconds_back
from stream_vl_ros.engine import LoadedModel, StreamConfig, VideoStream
from stream_vl_ros.world.heldout import heldout

FULL = "full cache"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to keep the memory. `share` is the budget as a part of the full cache, 1 without a rule."""

    rule: str
    share: float
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return FULL if self.rule == "none" else f"{self.rule}, {self.share:.3g} of it"

    def config(self, whole: int, chunk_frames: int) -> StreamConfig:
        """Settings of a stream whose full cache would hold `whole` tokens."""
        if self.rule == "none":
            return StreamConfig(target_fps=0, chunk_frames=chunk_frames)
        return StreamConfig(
            target_fps=0,
            chunk_frames=chunk_frames,
            eviction=self.rule,  # type: ignore[arg-type]
            budget_tokens=round(whole * self.share),
            **self.settings,
        )


@dataclass(slots=True)
class Tally:
    """Right answers among those asked, of one variant.

    Attributes:
        by_age: by the youngest age of a bin in seconds.
        past: about moments that a window of the same budget has forgotten.
        whole: of all questions.
        held: tokens in the cache at the end, on average over clips.
    """

    by_age: dict[float, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    past: dict[float, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    whole: list[int] = field(default_factory=lambda: [0, 0])
    held: list[int] = field(default_factory=list)

    def percent(self, age: float | None = None) -> float | None:
        """Percent right of one age, or of everything; None where nothing was asked."""
        right, asked = self.whole if age is None else self.by_age[age]
        return 100 * right / asked if asked else None

    def percent_past(self, share: float) -> float | None:
        """Percent right about what a window of this share has forgotten."""
        right, asked = self.past[share]
        return 100 * right / asked if asked else None

    def to_json(self) -> dict[str, object]:
        return {
            "right and asked by age": {str(a): c for a, c in sorted(self.by_age.items())},
            "right and asked about what a window forgot": {str(s): c for s, c in sorted(self.past.items())},
            "right and asked": self.whole,
            "cache tokens": sum(self.held) / max(1, len(self.held)),
        }


def run(
    model: LoadedModel,
    variants: Sequence[Variant],
    *,
    clips: int,
    frames: int,
    fps: float,
    ages: Sequence[float],
    chunk_frames: int,
    seed: int,
    tick: Callable[[], None],
) -> dict[str, Tally]:
    """Show every clip to a stream of every variant and ask the same questions at its end.

    `ages` are the borders between bins, in seconds, from 0 upwards. A question belongs to what a window has forgotten
    if the moment it rests on is older than everything in the cache of that window at the end of the same clip.
    """
    tallies = {v.name: Tally() for v in variants}
    # Windows first: what they forgot is asked of all others.
    order = sorted(variants, key=lambda v: v.rule != "window")
    for clip in heldout(seed, clips, frames=frames, fps=fps, kinds=(*PRESENT, *PAST)):
        pictures, stamps = clip.frames(), clip.stamps()
        aged = [(q, age) for q in clip.questions if (age := seconds_back(q, clip.scene)) is not None]
        reach: dict[float, float] = {}
        for variant in order:
            whole = full_cache(model, frames, pictures.shape[1:3])
            stream = VideoStream(model, variant.config(whole, chunk_frames))
            stream.append(pictures, stamps)
            if variant.rule == "window":
                reach[variant.share] = stamps[-1] - stream.state.first_stamp_ns / 1e9
            tally = tallies[variant.name]
            tally.held.append(stream.cache.length)
            answers = stream.ask_many([q.text for q, _ in aged])
            for (question, age), answer in zip(aged, answers, strict=True):
                right = is_right(question, answer.text)
                cells = [tally.whole, tally.by_age[max(a for a in ages if a <= age)]]
                cells += [tally.past[share] for share, seconds in reach.items() if age > seconds]
                for cell in cells:
                    cell[0] += right
                    cell[1] += 1
            tick()
    return tallies


def full_cache(model: LoadedModel, frames: int, size: Sequence[int], max_pixels: int = 0) -> int:
    """Tokens that a clip of `frames` pictures of this size takes, its system turn included."""
    stream = VideoStream(model)
    geometry = model.adapter.geometry
    rows, columns = geometry.grid(*geometry.frame_size(size[0], size[1], max_pixels))
    return stream.cache.length + -(-frames // geometry.temporal) * rows * columns
