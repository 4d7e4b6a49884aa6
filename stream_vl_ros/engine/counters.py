"""Accounting: every frame that came in is in exactly one place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class FrameCounters:
    """Where the frames went. Each place is counted on its own, so that a lost frame shows as a broken sum.

    Attributes:
        received: frames that were handed over.
        queued: waiting for the engine thread.
        in_hand: being looked at by the engine thread.
        pending: kept, waiting for their chunk.
        ingested: in the KV cache.
        skipped: left out by `target_fps`.
        drops: lost, by reason.
    """

    received: int = 0
    queued: int = 0
    in_hand: int = 0
    pending: int = 0
    ingested: int = 0
    skipped: int = 0
    drops: Counter[str] = field(default_factory=Counter)

    @property
    def dropped(self) -> int:
        return self.drops.total()

    @property
    def waiting(self) -> int:
        return self.queued + self.in_hand + self.pending

    @property
    def balanced(self) -> bool:
        """Whether every received frame is in one place."""
        return self.received == self.waiting + self.ingested + self.skipped + self.dropped

    def copy(self) -> FrameCounters:
        return FrameCounters(
            self.received, self.queued, self.in_hand, self.pending, self.ingested, self.skipped, Counter(self.drops)
        )


@dataclass(slots=True)
class QuestionCounters:
    """What became of the questions: asked = answered + failed + active."""

    asked: int = 0
    answered: int = 0
    failed: int = 0

    @property
    def active(self) -> int:
        return self.asked - self.answered - self.failed


@dataclass(slots=True)
class ChunkTimes:
    """Seconds that chunks took."""

    count: int = 0
    last: float = 0.0
    total: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.last = seconds
        self.total += seconds
