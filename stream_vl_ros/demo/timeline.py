"""What the demo prints: a timeline while it runs and a table at the end."""

from __future__ import annotations

import re
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from stream_vl_ros.demo.records import Asked, Status
from stream_vl_ros.engine.units import MIB

if TYPE_CHECKING:
    from typing_extensions import Self

# Random weights write walls of text.
_LONGEST = 240


class Timeline:
    """Prints to stdout: with a progress bar at the bottom on a terminal, as plain lines otherwise.

    A context manager; the terminal is restored at its end.
    """

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, markup=False, emoji=False, width=120)
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            disable=not self._live,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, text="")
        self._last_plain = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str, style: str = "") -> None:
        """One line."""
        self._bar.console.print(Text(text, style=style), soft_wrap=True)
        sys.stdout.flush()

    def fail(self, text: str) -> None:
        """A reason for failure."""
        self.say(text, "bold red")

    def loading(self, seconds: float, last: str) -> None:
        """The model is being loaded since `seconds`; `last` is what the node said last."""
        if self._live:
            self._bar.update(
                self._task, description="loading the model", total=None, text=f"{seconds:.0f} s  {_short(last, 80)}"
            )
        elif (mark := f"loading the model: {10 * int(seconds // 10)} s") != self._last_plain:
            self._last_plain = mark
            self.say(mark)

    def playing(self, position: float, total: float, sent: int, status: Status) -> None:
        """The replay is at `position` of `total` seconds, with `sent` images sent."""
        if self._live:
            text = f"{position:.1f} of {total:.1f} s, {sent} sent, {status.ingested} ingested"
            text += f", {status.cache_tokens} tokens"
            self._bar.update(self._task, description="replay", total=total, completed=position, text=text)
        elif sent and (mark := f"replay: {5 * int(position // 5)} of {total:.0f} s") != self._last_plain:
            self._last_plain = mark
            self.say(f"{mark}, {sent} images sent | {status.frames()}")

    def draining(self, status: Status) -> None:
        """The replay is over; the node works off what it has."""
        if self._live:
            self._bar.update(self._task, description="replay over", text=status.frames())

    def asked(self, item: Asked) -> None:
        """A question was asked."""
        choices = f"  [{' | '.join(item.question.choices)}]" if item.question.choices else ""
        self.say(f"{item.at:7.1f} s  Q{item.number}  {item.question.text}{choices}", "cyan")

    def answered(self, item: Asked, origin: int) -> None:
        """Its answer came; `origin` is the header stamp of the first frame, nanoseconds."""
        answer = item.answer
        assert answer is not None
        if not answer["success"]:
            self.fail(f"           A{item.number}  failed: {answer['error']}")
            return
        verdict = {None: "", True: "  (right)", False: f"  (expected: {item.question.expected})"}
        known = None if item.status.is_random else item.right
        self.say(
            f"           A{item.number}  {_short(answer['answer'])}{verdict[known]}",
            "green" if known is not False else "yellow",
        )
        seen = f"{answer['frames_seen']} frames"
        if answer["frames_seen"]:
            seen += f" up to {(answer['last_stamp'] - origin) / 1e9:.2f} s"
        self.say(
            f"               asked at {item.at:.1f} s, saw {seen} | first token {answer['ttft'] * 1e3:.0f} ms, "
            f"all {answer['total_time'] * 1e3:.0f} ms | cache {answer['cache_tokens']} tokens, "
            f"{answer['cache_bytes'] / MIB:.2f} MiB",
            "dim",
        )
        self.say(f"               latest status: {item.status.frames()}", "dim")

    def summary(self, asked: list[Asked], published: int, status: Status) -> None:
        """The table, and where every frame went."""
        self._bar.stop()
        table = Table(box=box.SIMPLE_HEAD, title="Questions and answers", title_justify="left")
        for name, kwargs in _COLUMNS:
            table.add_column(name, **kwargs)
        for item in asked:
            table.add_row(*_row(item))
        self._bar.console.print(table)
        right = [item.right for item in asked if item.right is not None]
        if right and not status.is_random:
            self.say(f"right answers  {sum(right)} of {len(right)}")
        parts = f"{status.ingested} ingested + {status.skipped} skipped + {status.dropped} dropped"
        if status.waiting:
            parts += f" + {status.waiting} waiting for its partner"
        total = status.ingested + status.skipped + status.dropped + status.waiting
        sign = "=" if published == status.received == total else "!="
        self.say(f"frames         {published} published, {status.received} received {sign} {parts}")
        if status.drops:
            self.say(f"drops          {', '.join(f'{reason}: {count}' for reason, count in status.drops)}")
        self.say(f"memory         {status.cache_tokens} tokens, {status.cache_bytes / MIB:.2f} MiB of KV cache")


_COLUMNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("at", {"justify": "right", "no_wrap": True}),
    ("question", {"ratio": 3}),
    ("answer", {"ratio": 3}),
    ("first token", {"justify": "right"}),
    ("all", {"justify": "right"}),
    ("frames seen", {"justify": "right"}),
    ("cache tokens", {"justify": "right"}),
    ("MiB", {"justify": "right"}),
)


def _row(item: Asked) -> list[Text]:
    head = [f"{item.at:.1f} s", item.question.text]
    answer = item.answer
    if answer is None or not answer["success"]:
        return [Text(t) for t in (*head, "none" if answer is None else "failed", "", "", "", "", "")]
    return [
        Text(t)
        for t in (
            *head,
            _short(answer["answer"], 80),
            f"{answer['ttft'] * 1e3:.0f} ms",
            f"{answer['total_time'] * 1e3:.0f} ms",
            str(answer["frames_seen"]),
            str(answer["cache_tokens"]),
            f"{answer['cache_bytes'] / MIB:.2f}",
        )
    ]


def _short(text: str, longest: int = _LONGEST) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    # Bytes that are no text come out as replacement characters, one a token.
    line = re.sub("\ufffd[\ufffd ]*", "\ufffd", line)
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
