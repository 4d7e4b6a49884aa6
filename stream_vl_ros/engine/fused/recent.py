"""The few things of many kinds that are made once and kept: those that were used last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Kinds that are remembered without having been made.
_SEEN = 16


class Recent(Generic[K, V]):
    """Values by key, of which the `most` that were used last are kept.

    What comes only once is not worth making: a value is made when its key comes for the second time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[K, V | None] = {}
        self._seen: dict[K, None] = {}

    def __iter__(self) -> Iterator[K]:
        return iter(self._kept)

    def get(self, key: K, make: Callable[[K], V], *, now: bool = False) -> V | None:
        """The value of a key; None if it comes for the first time, unless it is to be made `now`, or was given up."""
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)  # the one used last is the last to go
            return self._kept[key]
        if key not in self._seen and not now:
            while len(self._seen) >= _SEEN:
                self._seen.pop(next(iter(self._seen)))
            self._seen[key] = None
            return None
        while len(self._kept) >= self._most:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = make(key)
        return self._kept[key]

    def give_up(self, key: K) -> None:
        """Do without a value for this key, as long as it is among those that were used last."""
        self._kept[key] = None
