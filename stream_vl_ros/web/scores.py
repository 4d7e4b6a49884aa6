"""Standing questions as the page shows them: how they stand, and their scores over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

POINTS = 300
"""Scores that are kept of each."""
_EVENTS = 50

Key = tuple[str, str]
"""Stream and name."""


class Scores:
    """What the lists of `~/watch` and the events told so far."""

    def __init__(self) -> None:
        self._watches: dict[Key, dict[str, Any]] = {}
        self._points: dict[Key, deque[tuple[int, float]]] = {}
        self._marks: dict[Key, deque[tuple[float, bool]]] = {}
        self.events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)

    def listed(self, values: Mapping[str, Any]) -> tuple[dict[Key, dict[str, Any]], list[Key]]:
        """Take a list of all watches; returns the documents of these, and which are gone."""
        rows = [
            dict(zip(_COLUMNS.values(), row, strict=True)) for row in zip(*(values[c] for c in _COLUMNS), strict=True)
        ]
        keys = [(str(row["stream"]), str(row["name"])) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            before = self._watches.get(key)
            if before is not None and before["question"] != row["question"]:
                self._forget(key)  # another question under an old name
            self._watches[key] = row
            if row["stamp"]:
                self._add(key, row["stamp"], row["probability"])
        gone = [key for key in self._watches if key not in keys]
        for key in gone:
            self._forget(key)
        return {key: self.document(key) for key in keys}, gone

    def told(self, event: Mapping[str, Any]) -> Key:
        """Take an event; the watch may not have been listed yet."""
        key = (str(event["stream"]), str(event["name"]))
        self.events.append(
            {
                "stream": key[0],
                "name": key[1],
                "question": event["question"],
                "fired": event["fired"],
                "removed": event["removed"],
                "option": event["option"],
                "probability": event["probability"],
                "stamp": event["last_stamp"] / 1e9,
            }
        )
        if key in self._watches and not event["removed"]:
            self._watches[key]["firing"] = event["fired"]
            self._add(key, event["last_stamp"], event["probability"])
            self._marks.setdefault(key, deque(maxlen=POINTS)).append((event["last_stamp"] / 1e9, event["fired"]))
        return key

    def document(self, key: Key) -> dict[str, Any]:
        """How a watch stands, with its scores as pairs of seconds and probability. It must have been listed."""
        row = self._watches[key]
        return {
            **row,
            "stamp": row["stamp"] / 1e9,
            "points": [[stamp / 1e9, round(p, 5)] for stamp, p in self._points.get(key, ())],
            "marks": [list(mark) for mark in self._marks.get(key, ())],
        }

    def __contains__(self, key: Key) -> bool:
        return key in self._watches

    def _add(self, key: Key, stamp: int, probability: float) -> None:
        points = self._points.setdefault(key, deque(maxlen=POINTS))
        if probability >= 0 and (not points or points[-1][0] != stamp):
            points.append((stamp, probability))

    def _forget(self, key: Key) -> None:
        for book in (self._watches, self._points, self._marks):
            book.pop(key, None)


# Lists of srv/Watch, and what an entry of each is called here.
_COLUMNS: Mapping[str, str] = {
    "streams": "stream",
    "names": "name",
    "questions": "question",
    "fires_on": "fires_on",
    "firing": "firing",
    "probabilities": "probability",
    "thresholds": "threshold",
    "hysteresis": "hysteresis",
    "min_intervals": "min_interval",
    "stamps": "stamp",
    "events": "events",
    "errors": "error",
}


def columns() -> Sequence[str]:
    """The fields of the service's response that `listed` reads."""
    return tuple(_COLUMNS)
