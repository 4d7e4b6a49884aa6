"""Log lines that would repeat with every frame, at most one per subject and period."""

from __future__ import annotations

import logging
import time


class ThrottledLog:
    """Writes the first line of a subject at once, then one per `period` seconds with the count of those held back."""

    def __init__(self, log: logging.Logger, period: float = 5.0) -> None:
        self._log = log
        self._period = period
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def warning(self, subject: str, message: str) -> None:
        now = time.monotonic()
        if subject in self._last and now - self._last[subject] < self._period:
            self._held[subject] = self._held.get(subject, 0) + 1
            return
        self._last[subject] = now
        held = self._held.pop(subject, 0)
        self._log.warning("%s%s", message, f" ({held} more like this were not logged)" if held else "")
