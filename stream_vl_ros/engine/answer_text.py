"""An answer's text as it grows: whole characters only, and nothing of a string that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# What a decoder writes for bytes that are no whole character yet.
_INCOMPLETE = "\ufffd"


class AnswerText:
    """Turns tokens into text one at a time.

    A token may end in the middle of a character of several bytes, and a stop string may begin in one token and end in
    another; text that may still turn out to be either is held back.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._ids: list[int] = []
        # Tokens [prefix:read] are decoded again with each new one, because a tokenizer may write a token differently at
        # the beginning of a text.
        self._prefix = 0
        self._read = 0
        self._text = ""
        self._given = 0
        self.stopped = False

    def add(self, token: int) -> None:
        """The next token. Afterwards `stopped` tells whether the answer ends here."""
        self._ids.append(token)
        known = self._decode(self._ids[self._prefix : self._read])
        longer = self._decode(self._ids[self._prefix :])
        if longer.endswith(_INCOMPLETE):
            return
        self._text += longer[len(known) :]
        self._prefix, self._read = self._read, len(self._ids)
        # The one that is complete first, wherever the borders of the tokens are.
        found = [(i + len(s), i) for s in self._stop if (i := self._text.find(s)) >= 0]
        if found:
            self._text = self._text[: min(found)[1]]
            self.stopped = True

    @property
    def text(self) -> str:
        """All of it so far, without white space around it."""
        return (self._text if self.stopped else self._decode(self._ids)).strip()

    def news(self, *, finished: bool = False) -> str:
        """What can be shown and was not given out before. All pieces together are `text`."""
        sure = self.text if finished else self._sure()
        begin = min(self._given, len(sure))
        self._given = max(self._given, len(sure))
        return sure[begin:]

    def _sure(self) -> str:
        held = max((_overlap(self._text, s) for s in self._stop), default=0)
        return self._text[: len(self._text) - held].strip()

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
