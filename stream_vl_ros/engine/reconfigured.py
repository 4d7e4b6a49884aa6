"""Settings that change while a stream lives: which of them did, and what came of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from stream_vl_ros.engine.config import RunnerConfig, StreamConfig

# In front of all video, or in the positions of all text: the memory cannot be kept.
ANEW = frozenset({"system_prompt", "text_base"})
# Fixed by the first frame: they count from the next one that begins a memory.
LATER = frozenset({"max_pixels", "initial_capacity"})


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that has another value now."""

    name: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.name} {self.old!r} -> {self.new!r}"


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """What changing settings did.

    Attributes:
        changes: settings that have other values now.
        later: names of those that count only once a memory begins: after a reset.
        anew: the memory began anew, and all video was forgotten.
        forgotten: tokens that were forgotten at once to stay within a lower budget.
    """

    changes: tuple[Change, ...] = ()
    later: tuple[str, ...] = ()
    anew: bool = False
    forgotten: int = 0

    def __str__(self) -> str:
        if not self.changes:
            return "nothing changed"
        words = [", ".join(map(str, self.changes))]
        if self.later:
            words.append(f"{', '.join(self.later)} from the next reset on")
        if self.anew:
            words.append("all video was forgotten")
        if self.forgotten:
            words.append(f"{self.forgotten} tokens were forgotten for the lower budget")
        return "; ".join(words)


def changes(old: StreamConfig | RunnerConfig, new: StreamConfig | RunnerConfig) -> tuple[Change, ...]:
    """What differs between two settings of the same kind."""
    pairs = ((f.name, getattr(old, f.name), getattr(new, f.name)) for f in dataclasses.fields(new))
    return tuple(Change(name, a, b) for name, a, b in pairs if a != b)
