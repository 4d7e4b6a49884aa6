"""What others sent, shortened, so that a message about it stays one that people read."""

from __future__ import annotations

# A reason and a hint fit; a megabyte that somebody sent does not come back in every log and response.
MAX_REASON = 2000


def brief(text: str, limit: int = MAX_REASON) -> str:
    """`text`, its middle left out where it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    end = limit // 3
    return f"{text[: limit - end]} [... {len(text) - limit} characters left out ...] {text[-end:]}"


def shown(value: object, limit: int = 100) -> str:
    """A value as a message about it shows it."""
    return brief(repr(value), limit)
