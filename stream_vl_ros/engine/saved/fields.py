"""JSON of unknown origin, read field by field: each has one type and a range, and no other field is there."""

from __future__ import annotations

import json
from collections.abc import Mapping

from stream_vl_ros.errors import SavedMemoryError

# Nanoseconds and counters: far from the end of int64, so that sums and differences stay in it.
LARGE = 2**61


class Fields:
    """The fields of one JSON object; what is taken is checked, and `end` refuses what was not taken.

    Every method raises `SavedMemoryError` (``damaged``) for a field that is missing or not as it should be.
    """

    def __init__(self, value: object, path: str = "memory.json") -> None:
        if not isinstance(value, dict):
            raise damaged(path, value, "must be an object")
        self._values: Mapping[str, object] = value
        self._left = set(value)
        self.path = path

    @staticmethod
    def parse(text: bytes) -> Fields:
        """The object that a JSON text is. Numbers are finite, and no field is there twice."""
        try:
            return Fields(json.loads(text, parse_constant=_no_number, object_pairs_hook=_once))
        except (ValueError, RecursionError) as error:
            raise SavedMemoryError("damaged", f"memory.json is no JSON that was saved here: {error}") from error

    @property
    def whole(self) -> Mapping[str, object]:
        """All fields as they are."""
        return self._values

    def integer(self, name: str, low: int = -LARGE, high: int = LARGE) -> int:
        """A whole number between `low` and `high`, both included."""
        value = self._take(name)
        if type(value) is not int or not low <= value <= high:
            raise damaged(f"{self.path}.{name}", value, f"must be a whole number from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A number between `low` and `high`, both included."""
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise damaged(f"{self.path}.{name}", value, f"must be a number from {low} to {high}")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise damaged(f"{self.path}.{name}", value, "must be true or false")
        return value

    def text(self, name: str) -> str:
        """Text."""
        value = self._take(name)
        if not isinstance(value, str):
            raise damaged(f"{self.path}.{name}", value, "must be text")
        return value

    def absent(self, name: str) -> bool:
        """Whether the field is null; if so it is taken."""
        if name in self._values and self._values[name] is None:
            self._take(name)
            return True
        return False

    def inner(self, name: str) -> Fields:
        """An object."""
        return Fields(self._take(name), f"{self.path}.{name}")

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        return [Fields(value, f"{self.path}.{name}[{i}]") for i, value in enumerate(self._list(name))]

    def integers(self, name: str, low: int = -LARGE, high: int = LARGE) -> list[int]:
        """A list of whole numbers between `low` and `high`, both included."""
        values = self._list(name)
        for value in values:
            if type(value) is not int or not low <= value <= high:
                raise damaged(f"{self.path}.{name}", value, f"must be whole numbers from {low} to {high}")
        return values  # type: ignore[return-value]

    def anything(self, name: str) -> object:
        """What is there, whatever it is."""
        return self._take(name)

    def end(self) -> None:
        """Nothing else may be there."""
        if self._left:
            raise damaged(self.path, sorted(self._left), "has fields that nobody knows")

    def check(self, condition: bool, what: str) -> None:
        """Raise unless `condition` holds for the fields together."""
        if not condition:
            raise SavedMemoryError("damaged", f"{self.path}: it contradicts itself: {what}")

    def _list(self, name: str) -> list[object]:
        value = self._take(name)
        if not isinstance(value, list):
            raise damaged(f"{self.path}.{name}", value, "must be a list")
        return value

    def _take(self, name: str) -> object:
        if name not in self._values:
            raise SavedMemoryError("damaged", f"{self.path}: the field {name!r} is missing")
        self._left.discard(name)
        return self._values[name]


def damaged(path: str, value: object, rule: str) -> SavedMemoryError:
    """The error for a value that is not as it should be."""
    return SavedMemoryError("damaged", f"{path}={_short(value)}: {rule}")


def _short(value: object) -> str:
    if isinstance(value, (dict, list)) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or brackets
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a field is there twice")
    return values
