"""What a replay tells while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from stream_vl_ros.bag.schedule import Lateness


@dataclass(frozen=True, slots=True)
class Started:
    """A replay begins.

    Attributes:
        topics: topic that is published on -> images that the bag holds for it.
        start, until: part of the recording that is replayed, seconds from the first image; the end is at the latest
            where the bag ends.
    """

    topics: Mapping[str, int]
    start: float
    until: float

    @property
    def images(self) -> int:
        return sum(self.topics.values())


@dataclass(frozen=True, slots=True)
class Sent:
    """One published image.

    Attributes:
        number: from 1, over all topics.
        topic: where it was published.
        stamp: its header stamp, nanoseconds.
        position: seconds from the first image of the recording.
        late: seconds.
    """

    number: int
    topic: str
    stamp: int
    position: float
    late: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a replay did.

    Attributes:
        topics: topic that was published on -> images sent.
        acknowledged: every matched reliable subscriber confirmed all of them; always true for best effort.
        stopped: it was ended early on request.
        lateness: how well the timing was kept.
    """

    topics: Mapping[str, int]
    acknowledged: bool
    stopped: bool
    lateness: Lateness

    @property
    def published(self) -> int:
        return sum(self.topics.values())


class Listener(Protocol):
    """Is told what a replay does; called on the replaying thread, so it must be quick."""

    def waiting(self, topic: str, found: int, wanted: int) -> None: ...
    def started(self, started: Started) -> None: ...
    def sent(self, image: Sent) -> None: ...
    def finished(self, result: Result) -> None: ...
    def close(self) -> None:
        """It is over, well or badly."""
