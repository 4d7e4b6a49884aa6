"""The console and a file get the same lines while a report is made."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console


class Journal:
    """Lines for people, kept for the report and written to a file as they come."""

    def __init__(self, console: Console, path: Path) -> None:
        self.console, self.lines = console, []
        self._file = path.open("w", encoding="utf-8")

    lines: list[str]

    def say(self, text: str) -> None:
        """One line, everywhere."""
        self.lines.append(text)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._file.write(text + "\n")
        self._file.flush()  # what was said before a crash is there after it

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            why = f": {error}" if str(error) else ""
            self.say("interrupted" if isinstance(error, KeyboardInterrupt) else f"ended by {type(error).__name__}{why}")
        self._file.close()
