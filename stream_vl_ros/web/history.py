"""Questions and answers as the page shows them, bounded, with pictures of what each answer saw."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from stream_vl_ros.web.moments import Moment

State = Literal["waiting", "writing", "done", "failed", "stopped", "note"]
FINAL = ("done", "failed", "stopped", "note")
FRAMES = 12
"""Pictures that are kept with an answer."""


@dataclass(slots=True)
class Entry:
    """One question with what became of it, or a note about the node.

    Attributes:
        id: from 1, never used twice.
        asked_at: seconds since 1970, by the clock of this machine.
        origin: "page", or "other" for a question that somebody else asked.
        state: "note" for what is no question; `answer` is then the note.
        first_stamp, last_stamp: header stamps of the first and the last frame that the answer saw, nanoseconds.
        moments: pictures of what it saw; replaced as a whole.
    """

    id: int
    asked_at: float
    question: str = ""
    origin: Literal["page", "other"] = "page"
    stream: str = ""
    choices: tuple[str, ...] = ()
    dialogue: str = ""
    regex: str = ""
    state: State = "waiting"
    answer: str = ""
    scores: tuple[float, ...] = ()
    error: str = ""
    remembered: bool = False
    first_stamp: int = 0
    last_stamp: int = 0
    frames_seen: int = 0
    ttft: float = 0.0
    total_time: float = 0.0
    answer_tokens: int = 0
    cache_tokens: int = 0
    moments: tuple[Moment, ...] = field(default=(), repr=False)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def tokens_per_second(self) -> float:
        """While it was written, the time to the first token left out; 0 if it is not known."""
        writing = self.total_time - self.ttft
        return (self.answer_tokens - 1) / writing if self.answer_tokens > 1 and writing > 0 else 0.0

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of the choices, when only they are possible answers; none without scores."""
        known = [s for s in self.scores if math.isfinite(s)]
        if not known or len(known) != len(self.scores):
            return ()
        weights = [math.exp(s - max(known)) for s in self.scores]
        return tuple(w / sum(weights) for w in weights)

    def document(self) -> dict[str, Any]:
        """Plain values; stamps in seconds, pictures by their stamps."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "moments"}
        values["choices"] = list(self.choices)
        values["scores"] = [s if math.isfinite(s) else None for s in self.scores]
        values["probabilities"] = list(self.probabilities)
        values["first_stamp"] = self.first_stamp / 1e9
        values["last_stamp"] = self.last_stamp / 1e9
        values["tokens_per_second"] = self.tokens_per_second
        values["frames"] = [m.stamp / 1e9 for m in self.moments]
        return values


class History:
    """The newest `limit` entries, the oldest first."""

    def __init__(
        self,
        limit: int,
        changed: Callable[[Entry], None] = lambda entry: None,
        dropped: Callable[[Entry], None] = lambda entry: None,
        entries: Iterable[Entry] = (),
    ) -> None:
        """Begin with `entries`.

        Args:
            limit: how many are kept.
            changed: called with each entry that is new or has changed.
            dropped: called with each that is forgotten.
            entries: from before, in their order.
        """
        self._limit, self._changed, self._dropped = limit, changed, dropped
        self._entries = {entry.id: entry for entry in entries}
        self._next = max(self._entries, default=0) + 1
        self._shrink()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, number: int) -> Entry | None:
        """The entry of this id, if it is still kept."""
        return self._entries.get(number)

    def add(self, asked_at: float, **values: Any) -> Entry:
        """A new entry at the end."""
        entry = Entry(self._next, asked_at, **values)
        self._next += 1
        self._entries[entry.id] = entry
        self._shrink()
        self._changed(entry)
        return entry

    def update(self, entry: Entry, **values: Any) -> None:
        """Change an entry; nothing is told of one that is forgotten."""
        for name, value in values.items():
            setattr(entry, name, value)
        if entry.id in self._entries:
            self._changed(entry)

    def pending(self) -> list[Entry]:
        """Those of this page that wait for an answer."""
        return [e for e in self._entries.values() if not e.is_final]

    def _shrink(self) -> None:
        while len(self._entries) > self._limit:
            oldest = next(iter(self._entries))
            self._dropped(self._entries.pop(oldest))
