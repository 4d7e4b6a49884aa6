"""Accounting: every frame and every question that came in is in exactly one place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from stream_vl_ros.engine.answer import Finish
from stream_vl_ros.errors import ConfigError, PromptError, RequestError, TimedOutError


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
    """What became of the questions. Each end is counted on its own, so that a lost question shows as a broken sum.

    Attributes:
        asked: questions that came, refused ones included.
        active: waiting or being answered.
        answered: to their end.
        cancelled: given up by their callers.
        timed_out: cut off by their deadline, with or without a beginning of an answer.
        refusals: not answered, by reason.
    """

    asked: int = 0
    active: int = 0
    answered: int = 0
    cancelled: int = 0
    timed_out: int = 0
    refusals: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> int:
        return self.refusals.total()

    @property
    def balanced(self) -> bool:
        """Whether every question is in one place."""
        return self.asked == self.active + self.answered + self.cancelled + self.timed_out + self.refused

    def count(self, end: Finish | Exception) -> None:
        """A question ended: with an answer that ended for this reason, or without one."""
        if end is Finish.CANCELLED:
            self.cancelled += 1
        elif end is Finish.TIMEOUT or isinstance(end, TimedOutError):
            self.timed_out += 1
        elif isinstance(end, Exception):
            self.refusals[refusal_reason(end)] += 1
        else:
            self.answered += 1

    def copy(self) -> QuestionCounters:
        return QuestionCounters(
            self.asked, self.active, self.answered, self.cancelled, self.timed_out, Counter(self.refusals)
        )


def refusal_reason(error: Exception) -> str:
    """Why a question was not answered, in one word."""
    if isinstance(error, RequestError):
        return error.reason
    return "bad_question" if isinstance(error, (PromptError, ConfigError)) else "engine_error"


@dataclass(slots=True)
class ChunkTimes:
    """Seconds that chunks took.

    Attributes:
        count: chunks.
        measured: of them, those whose time is known; a GPU may still be at work on the others.
        last: seconds of the newest of those.
        total: of all of those.
    """

    count: int = 0
    measured: int = 0
    last: float = 0.0
    total: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.measured if self.measured else 0.0

    def add(self, seconds: float) -> None:
        """One that was counted took so long."""
        self.measured += 1
        self.last = seconds
        self.total += seconds
