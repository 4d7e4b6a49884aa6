"""When a place among the questions is free again, by how long recent ones held theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

_RECENT = 32


class PlaceTimes:
    """How long the last questions held their places, and who was told to come back when.

    >>> times = PlaceTimes()
    >>> times.promise(0.0, [0.5, 0.1]) is None
    True
    >>> times.add(2.0)
    >>> times.promise(0.0, [0.5, 0.1]), times.promise(0.0, [0.5, 0.1])
    (1.5, 2.0)
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._promised: list[float] = []  # moments at which somebody was told to come back

    def add(self, seconds: float) -> None:
        """A question gave its place back."""
        self._seconds.append(seconds)

    def promise(self, now: float, ages: Sequence[float], ends: int = 1) -> float | None:
        """Seconds until a place is probably free for one more caller; None if no question ever ended.

        Callers that were told so before come first, as far as there are places: beyond that they would be asking in
        vain all the time, and nobody knows whether they come back at all.

        Args:
            now: the moment, in seconds.
            ages: seconds since the present questions were asked, the oldest first.
            ends: how many of them must end before there is a place.
        """
        if not self._seconds:
            return None
        self._promised = [moment for moment in self._promised if moment > now]
        ends += min(len(self._promised), len(ages))
        mean = sum(self._seconds) / len(self._seconds)
        # Questions that came together end together, after the mean time; those that came one by one end in as even
        # steps. Of either, the later one: who comes back too early is refused again.
        seconds = ends * mean / len(ages)
        if ends <= len(ages):
            seconds = max(seconds, mean - ages[ends - 1])
        self._promised.append(now + seconds)
        return seconds
