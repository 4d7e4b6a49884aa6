"""What a load came to, on the clients' side and on the node's, and whether the two are the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Status = Mapping[str, Any]

QUESTIONS = ("asked", "answered", "cancelled", "refused", "timed_out", "active")
FRAMES = ("received", "ingested", "skipped", "dropped", "waiting")


@dataclass(slots=True)
class Account:
    """All that is known of a load.

    Attributes:
        ends: how the clients' requests ended.
        seconds: how long the clients waited for each response.
        overdue: by how many seconds the latest response came after its request's own timeout.
        other: some errors that the clients did not expect.
        heeded, heeded_busy: requests that came when a busy node had said, and how many found it busy again.
        unknown: busy responses of the last round that could not say when.
        statuses: the node's last status of each stream.
        published: frames that the cameras published, by stream.
        call_timeout: seconds after which a client takes its request for lost.
        grace: seconds that `overdue` may come to.
        cache_bytes: of all streams, before and after.
        process_mib: what the node's process alone has written to, before and after.
        limit_mib: by how much that may grow.
    """

    call_timeout: float
    grace: float
    limit_mib: float
    ends: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    overdue: float = -math.inf
    other: list[str] = field(default_factory=list)
    heeded: int = 0
    heeded_busy: int = 0
    unknown: int = 0
    statuses: dict[str, Status] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    cache_bytes: tuple[int, int] = (0, 0)
    process_mib: tuple[float, float] = (0.0, 0.0)

    def take(self, rounds: Sequence[Mapping[str, Any]]) -> None:
        """Add what client processes told of a round."""
        self.unknown = 0
        for told in rounds:
            self.ends.update(told["ends"])
            self.seconds += told["seconds"]
            self.overdue = max(self.overdue, told["overdue"])
            self.unknown += told["unknown"]
            self.other += told["other"]
            self.heeded += told["heeded"]
            self.heeded_busy += told["heeded_busy"]

    @property
    def requests(self) -> int:
        return self.ends.total()

    def questions(self, end: str) -> int:
        """The node's count over all streams."""
        return sum(int(status[f"questions_{end}"]) for status in self.statuses.values())

    @property
    def refusals(self) -> Counter[str]:
        return sum((Counter(status["refusals"]) for status in self.statuses.values()), Counter())

    @property
    def grown_mib(self) -> float:
        return self.process_mib[1] - self.process_mib[0]

    def wrong(self) -> list[str]:
        """What does not hold, in words."""
        found = [f"a client was told: {error}" for error in self.other[:5]]
        if lost := self.ends["lost"]:
            found.append(f"{lost} requests got no response within {self.call_timeout:g} s")
        if self.overdue > self.grace:
            found.append(
                f"a response came {self.overdue:.1f} s after its request's own timeout, at the most {self.grace:g}"
            )
        if self.unknown:
            found.append(
                f"{self.unknown} busy responses could not say when to come back, though answers had ended before"
            )
        if not self.requests or not self.ends["answered"]:
            found.append(f"{self.requests} requests, {self.ends['answered']} of them answered: this was no load")
        for client, node in {"answered": "answered", "timed_out": "timed_out", "cancelled": "cancelled"}.items():
            if self.ends[client] != self.questions(node):
                found.append(f"{client}: the clients count {self.ends[client]}, the node {self.questions(node)}")
        if self.ends["busy"] != self.refusals["busy"]:
            found.append(f"busy: the clients count {self.ends['busy']}, the node {self.refusals['busy']}")
        if self.requests != self.questions("asked"):
            found.append(f"the clients asked {self.requests} questions, the node counts {self.questions('asked')}")
        for name, status in self.statuses.items():
            found += broken_sums(name, status)
            if status["questions_active"]:
                found.append(f"{name}: {status['questions_active']} questions are still active")
            if (received := status["frames_received"]) != self.published.get(name):
                found.append(f"{name}: {self.published.get(name)} frames were published, {received} received")
        before, after = self.cache_bytes
        if before != after:
            found.append(f"the caches took {before} bytes before and {after} after")
        if self.grown_mib > self.limit_mib:
            found.append(f"the process holds {self.grown_mib:.1f} MiB more, {self.limit_mib:g} at the most are allowed")
        return found


def broken_sums(name: str, status: Status) -> list[str]:
    """The sums of a status that do not hold."""
    found = []
    for what, (whole, *parts), by_reason, total in (
        ("questions", QUESTIONS, "refusals", "questions_refused"),
        ("frames", FRAMES, "drops", "frames_dropped"),
    ):
        counts = {part: int(status[f"{what}_{part}"]) for part in parts}
        if int(status[f"{what}_{whole}"]) != sum(counts.values()):
            found.append(f"{name}: {status[f'{what}_{whole}']} {what} {whole} are not {counts}")
        if sum(status[by_reason].values()) != int(status[total]):
            found.append(f"{name}: {by_reason} {status[by_reason]} are not {total} {status[total]}")
    return found
