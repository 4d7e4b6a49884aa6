"""What a soak measured, and whether that is what was promised."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

from stream_vl_ros.bench.soak_script import ROUND


@dataclass(frozen=True, slots=True)
class Sample:
    """One scene's length of the stream.

    Attributes:
        hours: of stream time at its end.
        chunk_ms: processor time of a chunk of the usual size, median, milliseconds; None in a scene without one.
        chunks: that it is the median of.
        resident_mib, peak_mib: resident memory of the process, median and largest over the scene's frames.
        own_mib: what of it is no file's, at the end.
        pinned_mib: what forks and kept memories hold beyond the stream's own cache.
        tokens: in the cache.
        forks: that are alive.
        threads, files: of the process.
        right, asked: questions about the last seconds.
        standing_right, standing: looks at standing questions, events included.
        answers: that other callers were given.
    """

    hours: float
    chunk_ms: float | None
    chunks: int
    resident_mib: float
    peak_mib: float
    own_mib: float
    pinned_mib: float
    tokens: int
    forks: int
    threads: int
    files: int
    right: int
    asked: int
    standing_right: int
    standing: int
    answers: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How far things may move: memory and chunks in percent, right answers in points of percent.

    One answer may always be wrong: in a short run it is more than any sensible number of points.
    """

    memory: float = 1.0
    chunk: float = 10.0
    accuracy: float = 2.0


@dataclass(slots=True)
class Soak:
    """A soak, scene by scene, and its accounts at the end: a sentence each, and whether it holds."""

    samples: list[Sample] = field(default_factory=list)
    accounts: list[tuple[bool, str]] = field(default_factory=list)
    counts: dict[str, object] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def warm(self) -> list[Sample]:
        """Samples after warm-up: a tenth of the run, and at least a round in which everything happens once."""
        n = len(self.samples)
        return self.samples[min(max(ROUND, n // 10), n // 2) :]

    def memory_percent(self) -> float:
        """Largest resident memory after warm-up above the smallest: medians over a round, wherever that begins.

        The scenes of a round hold different things on purpose, and answers that are under way take some for a moment.
        """
        found = [s.resident_mib for s in self.warm]
        width = min(ROUND, max(1, len(found) // 2))
        medians = [statistics.median(found[i : i + width]) for i in range(len(found) - width + 1)]
        return 100 * (max(medians) / min(medians) - 1)

    def chunk_percent(self) -> float:
        """Processor time of a chunk in the last tenth after warm-up above that in the first one."""
        found = [s.chunk_ms for s in self.warm if s.chunk_ms is not None]
        if not found:
            return 0.0
        n = max(4, len(found) // 10)
        return 100 * (statistics.median(found[-n:]) / statistics.median(found[:n]) - 1)

    def accuracy(self, third: int) -> float:
        """Percent right about the last seconds in a third of the run."""
        some = self._third(third)
        return 100 * sum(s.right for s in some) / max(1, sum(s.asked for s in some))

    def standing(self, third: int) -> float:
        """Percent of looks at which standing questions stood as they had to, in a third of the run."""
        some = self._third(third)
        return 100 * sum(s.standing_right for s in some) / max(1, sum(s.standing for s in some))

    def falls(self, limits: Limits) -> bool:
        """Whether questions about the last seconds are answered worse at the end than at the beginning."""
        asked = sum(s.asked for s in self._third(2))
        return self.accuracy(2) < self.accuracy(0) - max(limits.accuracy, 100 / max(1, asked))

    def _third(self, third: int) -> list[Sample]:
        n = len(self.samples)
        return self.samples[third * n // 3 : (third + 1) * n // 3]

    def verdicts(self, limits: Limits) -> list[tuple[bool, str]]:
        """Each promise, whether it holds, and its number."""
        if len(self.samples) < 3:
            return [(False, f"{len(self.samples)} scenes are too few to say anything"), *self.accounts]
        memory, chunk = self.memory_percent(), self.chunk_percent()
        asked, stood = ([which(i) for i in range(3)] for which in (self.accuracy, self.standing))
        threads, files, forks = (
            {name: [getattr(s, name) for s in self.warm] for name in ("threads", "files", "forks")}
        ).values()
        return [
            (memory <= limits.memory, f"resident memory after warm-up moves by {memory:.2f} %"),
            (chunk <= limits.chunk, f"processor time per chunk, last against first after warm-up: {chunk:+.1f} %"),
            (not self.falls(limits), f"right about the last seconds, by thirds: {_row(asked)}"),
            (stood[2] >= stood[0] - limits.accuracy, f"standing questions right, by thirds: {_row(stood)}"),
            (max(threads) == min(threads), f"threads: {min(threads)} to {max(threads)}"),
            (max(files) == min(files), f"file descriptors: {min(files)} to {max(files)}"),
            (_settled(forks), f"living forks: at most {max(forks)}, no more in the last third than in the first"),
            *self.accounts,
        ]

    def to_json(self, limits: Limits) -> dict[str, object]:
        return {
            "limits": asdict(limits),
            "verdicts": [{"holds": holds, "what": what} for holds, what in self.verdicts(limits)],
            "counts": self.counts,
            "interrupted": self.interrupted,
            "samples": [asdict(s) for s in self.samples],
        }


def _row(values: list[float]) -> str:
    return ", ".join(f"{v:.1f} %" for v in values)


def _settled(values: list[int]) -> bool:
    third = max(1, len(values) // 3)
    return statistics.median(values[-third:]) <= statistics.median(values[:third]) + 1
