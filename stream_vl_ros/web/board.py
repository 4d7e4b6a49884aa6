"""What the pages show, as documents by key, and which of them each page has not got yet.

Used on one thread. A page that is slow gets fewer versions of a document, never a longer queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Document: TypeAlias = "dict[str, Any] | list[Any] | None"
"""Plain values for JSON; None takes a document away."""


class Mailbox:
    """What one page has not got yet: the newest version of each document, and no more."""

    def __init__(self, documents: dict[str, Document], wake: Callable[[], None]) -> None:
        self._pending = dict(documents)
        self._wake = wake

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, key: str, document: Document) -> None:
        """Replaces an older version that was not fetched."""
        self._pending[key] = document
        self._wake()

    def take(self) -> dict[str, Document]:
        """Everything that is new, and empties the box."""
        pending, self._pending = self._pending, {}
        return pending


class Board:
    """The documents, and the mailboxes of the pages that are open."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._boxes: list[Mailbox] = []

    def __getitem__(self, key: str) -> Document:
        return self._documents[key]

    def put(self, key: str, document: Document) -> None:
        """Show this version of a document from now on; it must not be changed any more."""
        if key in self._documents and self._documents[key] == document:
            return
        if document is None:
            self._documents.pop(key, None)
        else:
            self._documents[key] = document
        for box in self._boxes:
            box.put(key, document)

    def open(self, wake: Callable[[], None]) -> Mailbox:
        """A mailbox that holds every document; `wake` is called whenever something is put in."""
        box = Mailbox(self._documents, wake)
        self._boxes.append(box)
        return box

    def close(self, box: Mailbox) -> None:
        """Fill it no more."""
        self._boxes.remove(box)
