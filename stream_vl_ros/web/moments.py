"""Small pictures of a stream with their header stamps, so that an answer can show what it saw."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """A small picture.

    Attributes:
        stamp: header stamp, nanoseconds.
        jpeg: the file.
    """

    stamp: int
    jpeg: bytes


class Moments:
    """The newest `limit` of them, in the order of arrival. Safe for use from several threads."""

    def __init__(self, limit: int, period: float = 0.5) -> None:
        """Empty.

        Args:
            limit: how many are kept.
            period: seconds of stream from one to the next.
        """
        self._ring: deque[Moment] = deque(maxlen=limit)
        self._period = round(period * 1_000_000_000)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ring)

    def is_due(self, stamp: int) -> bool:
        """Whether a picture of this header stamp is far enough from the last one; time that jumps back is."""
        with self._lock:
            return not self._ring or not 0 <= stamp - self._ring[-1].stamp < self._period

    def add(self, moment: Moment) -> None:
        """Keep it; the oldest one goes when there are too many."""
        with self._lock:
            if not self._ring or self._ring[-1].stamp != moment.stamp:
                self._ring.append(moment)

    def span(self, first: int, last: int, count: int) -> list[Moment]:
        """At most `count` pictures, evenly over the stream from `first` to `last`, the last one among them.

        A `first` after `last` is a stream whose time jumped back in between: then it is all that came before `last`.
        """
        with self._lock:
            ring = list(self._ring)
        # What came after `last`, or has a time of another round of the stream, was not seen.
        end = next((i for i in range(len(ring) - 1, -1, -1) if ring[i].stamp <= last), -1)
        seen = ring[: end + 1]
        if first <= last:
            seen = [m for m in seen if first - self._period <= m.stamp <= last]
            # Rounds with the same stamps: the newest one.
            start = max((i for i in range(1, len(seen)) if seen[i].stamp < seen[i - 1].stamp), default=0)
            seen = seen[start:]
        if len(seen) <= count:
            return seen
        step = (len(seen) - 1) / (count - 1) if count > 1 else 1.0
        return [seen[round(len(seen) - 1 - i * step)] for i in range(count - 1, -1, -1)]
