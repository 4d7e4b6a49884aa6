"""When a place among the questions is free again, by how long recent ones held theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_RECENT = 32


class PlaceTimes:
    """How long the last questions held their places.

    >>> times = PlaceTimes()
    >>> times.until_free([0.5, 0.1]) is None
    True
    >>> times.add(2.0)
    >>> times.until_free([0.5, 0.1]), times.until_free([1.9, 0.1])
    (1.5, 1.0)
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_RECENT)

    def add(self, seconds: float) -> None:
        """A question gave its place back."""
        self._seconds.append(seconds)

    def until_free(self, ages: Sequence[float], ends: int = 1) -> float | None:
        """Seconds until so many of the present questions have probably ended; None if none ever did.

        Args:
            ages: seconds since they were asked, the oldest first.
            ends: how many of them must end, 1 to all.
        """
        if not self._seconds:
            return None
        mean = sum(self._seconds) / len(self._seconds)
        # Questions that came together end together, after the mean time; those that came one by one end in as even
        # steps. Of either, the later one: who comes back too early is refused again.
        return max(mean - ages[ends - 1], ends * mean / len(ages))
