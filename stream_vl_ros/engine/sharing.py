"""Several engine threads on one model: one at a time, each with the same share of the time."""

from __future__ import annotations

import threading
import time
from types import TracebackType


class Sharing:
    """Who may use the model. Each thread has a `Share` of its own, from `member`.

    The one that has used the least time goes first (the idea of weighted fair queueing, Demers et al. 1989, and of
    Linux' CFS, with equal weights). A member that had nothing to do for a while saves no time up by that.

    >>> sharing = Sharing()
    >>> front, rear = sharing.member(), sharing.member()
    >>> with front:
    ...     front.offer()  # between two pieces of work: let others in who had less
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Share] = []
        self._holder: Share | None = None
        self._floor = 0.0  # what a member that comes back has used at least

    def member(self) -> Share:
        """A new member."""
        return Share(self)

    def _take(self, share: Share) -> None:
        with self._changed:
            share.used = max(share.used, self._floor)
            self._waiting.append(share)
            self._changed.wait_for(lambda: self._holder is None and self._next() is share)
            self._waiting.remove(share)
            self._holder, share.since = share, time.perf_counter()
            self._floor = share.used

    def _give(self, share: Share) -> None:
        with self._changed:
            self._book(share)
            self._holder = None
            self._changed.notify_all()

    def _offer(self, share: Share) -> bool:
        with self._changed:
            self._book(share)
            return bool(self._waiting) and self._next().used < share.used

    def _next(self) -> Share:
        # Of several that have used the same, the one that waits longest.
        return min(self._waiting, key=lambda share: share.used)

    @staticmethod
    def _book(share: Share) -> None:
        now = time.perf_counter()
        share.used += now - share.since
        share.since = now


class Share:
    """One thread's place among those that share a model: a context manager, held while the model is used.

    Attributes:
        used: seconds that it held the model, plus what was put on it so that idling earns nothing.
    """

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self.used = 0.0
        self.since = 0.0

    def __enter__(self) -> Share:
        self._sharing._take(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._sharing._give(self)

    def offer(self) -> None:
        """Between two pieces of work: let another one in first if one waits that has used less time."""
        if self._sharing._offer(self):
            self._sharing._give(self)
            self._sharing._take(self)
