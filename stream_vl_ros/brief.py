"""What others sent, shortened, so that a message about it stays one that people read."""

from __future__ import annotations

import reprlib

# A reason and a hint fit; a megabyte that somebody sent does not come back in every log and response.
MAX_REASON = 2000

# Lists of lists of lists, as YAML's aliases make them, are not even written out.
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 4, 1000, 1000
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxarray = 64


def brief(text: str, limit: int = MAX_REASON) -> str:
    """`text`, its middle left out where it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end]} [... {len(text) - limit} characters left out ...] {text[-end:]}"


def shown(value: object, limit: int = 100) -> str:
    """A value as a message about it shows it."""
    return brief(_REPR.repr(value), limit)
