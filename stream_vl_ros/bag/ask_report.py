"""What `ask_bag` says: a progress bar, answers as they come, a table, and one JSON document."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from stream_vl_ros.engine.units import MIB

if TYPE_CHECKING:
    from typing_extensions import Self

    from stream_vl_ros.bag.asking import Asking
    from stream_vl_ros.bag.inquiries import Outcome
    from stream_vl_ros.engine.answer import Answer
    from stream_vl_ros.engine.runner_state import RunnerStatus

_COLUMNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("at", {"justify": "right", "no_wrap": True}),
    ("question", {"ratio": 3}),
    ("answer", {"ratio": 3}),
    ("first\ntoken", {"justify": "right"}),
    ("all", {"justify": "right"}),
    ("frames\nseen", {"justify": "right"}),
    ("cache\ntokens", {"justify": "right"}),
    ("MiB", {"justify": "right"}),
)


class Screen:
    """Progress and answers on stderr: with a bar on a terminal, as plain lines otherwise. A context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, text="")
        self._seconds = 0.0

        self._warnings = _Lines(self.say)

    def __enter__(self) -> Self:
        self._bar.start()
        self._warnings.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._warnings.end()
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line."""
        self._bar.console.print(Text(text), soft_wrap=True)

    def loading(self, model: str) -> None:
        """The model is being loaded."""
        self._bar.update(self._task, description="loading", text=model)

    def begin(self, seconds: float) -> None:
        """At the most so many seconds of the recording will be read."""
        self._seconds = seconds
        self._bar.reset(self._task, total=seconds, description="reading", text="")

    def reading(self, position: float, read: int, status: RunnerStatus) -> None:
        text = f"{position:.1f} of {self._seconds:.1f} s, {read} images, {status.cache_tokens} tokens"
        self._bar.update(self._task, completed=min(position, self._seconds), text=text)

    def answered(self, outcome: Outcome) -> None:
        answer = outcome.answer
        what = f"failed: {outcome.error}" if answer is None else f"{answer.text!r} ({answer.total_time * 1e3:.0f} ms)"
        self.say(f"{_at(outcome)}: {outcome.inquiry.text} {what}")


class _Lines(logging.Handler):
    """What the package's modules log, one line or more each. Between `begin` and `end` nobody else gets it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._log = logging.getLogger("stream_vl_ros")
        self.setFormatter(logging.Formatter("ask_bag: %(message)s"))

    def begin(self) -> None:
        self._log.addHandler(self)
        self._propagated, self._log.propagate = self._log.propagate, False

    def end(self) -> None:
        self._log.removeHandler(self)
        self._log.propagate = self._propagated

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


def table(asking: Asking) -> Table:
    """Questions and answers, in the order of their moments."""
    out = Table(box=box.SIMPLE_HEAD, title="Questions and answers", title_justify="left")
    for name, kwargs in _COLUMNS:
        out.add_column(name, **kwargs)
    for outcome in asking.outcomes:
        head = (_at(outcome), outcome.inquiry.text)
        out.add_row(*(Text(cell) for cell in (*head, *_cells(outcome))))
    return out


def print_table(asking: Asking) -> None:
    """The table and the accounts, on stdout."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=120)
    console.print(table(asking))
    for line in accounts(asking):
        console.print(line, soft_wrap=True)
    for outcome in asking.outcomes:
        if outcome.note or outcome.error:
            console.print(f"question {outcome.inquiry.number}  {outcome.note or outcome.error}", soft_wrap=True)


def accounts(asking: Asking) -> list[str]:
    """Where every image went, and what the memory holds, in words."""
    frames, status = asking.status.frames, asking.status
    parts = f"{frames.ingested} ingested + {frames.skipped} skipped + {frames.dropped} dropped"
    if frames.waiting:
        parts += f" + {frames.waiting} waiting for {'its partner' if frames.waiting == 1 else 'their chunk'}"
    sign = "=" if frames.balanced and frames.received == asking.read else "!="
    lines = [f"frames      {asking.read} of {asking.topic.count} images read {sign} {parts}"]
    if frames.drops:
        lines.append(f"dropped     {', '.join(f'{reason}: {count}' for reason, count in frames.drops.items())}")
    memory = f"memory      {status.cache_tokens} tokens, {status.cache_bytes / MIB:.2f} MiB of KV cache"
    if status.evicted.tokens:
        memory += f"; {status.evicted.frames} frames, {status.evicted.tokens} tokens forgotten"
    return [*lines, memory]


def document(asking: Asking, environment: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything about a run, ready for JSON. Times are seconds, stamps nanoseconds."""
    frames, status, bag = asking.status.frames, asking.status, asking.bag
    return {
        "environment": environment,
        "settings": settings,
        "bag": {
            "path": str(bag.path),
            "topic": asking.topic.name,
            "images": asking.topic.count,
            "seconds": bag.duration / 1e9,
            "first_stamp": asking.origin,
        },
        "questions": [_question(outcome, asking.origin or 0) for outcome in asking.outcomes],
        "frames": {
            "read": asking.read,
            "received": frames.received,
            "ingested": frames.ingested,
            "skipped": frames.skipped,
            "dropped": frames.dropped,
            "waiting": frames.waiting,
            "drops": dict(frames.drops),
            "time_jumps_back": status.jumps.back,
            "time_gaps": status.jumps.gaps,
        },
        "memory": {
            "cache_tokens": status.cache_tokens,
            "cache_bytes": status.cache_bytes,
            "evicted_frames": status.evicted.frames,
            "evicted_tokens": status.evicted.tokens,
        },
        "error": asking.error,
        "problem": status.problem,
    }


def _question(outcome: Outcome, origin: int) -> dict[str, Any]:
    inquiry, answer = outcome.inquiry, outcome.answer
    out: dict[str, Any] = {
        "number": inquiry.number,
        "at": inquiry.at,
        "question": inquiry.text,
        "choices": list(inquiry.choices),
        "success": answer is not None,
        "error": outcome.error,
        "note": outcome.note,
    }
    return out if answer is None else out | _answer(answer, origin)


def _answer(answer: Answer, origin: int) -> dict[str, Any]:
    moment = answer.moment
    return {
        "answer": answer.text,
        "scores": list(answer.scores),
        "finish": answer.finish.value,
        "complete": answer.complete,
        "first_stamp": moment.first_stamp_ns,
        "last_stamp": moment.last_stamp_ns,
        "seen_until": (moment.last_stamp_ns - origin) / 1e9,
        "frames_seen": moment.frames,
        "ttft": answer.ttft,
        "total_time": answer.total_time,
        "answer_tokens": len(answer.token_ids),
        "token_ids": list(answer.token_ids),
        "cache_tokens": moment.cache_tokens,
        "cache_bytes": moment.cache_bytes,
    }


def _at(outcome: Outcome) -> str:
    at = outcome.inquiry.at
    return "end" if at is None else f"{at:.2f} s"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    answer = outcome.answer
    if answer is None:
        return ("none", "", "", "", "", "")
    text = answer.text
    if answer.scores:
        pairs = zip(outcome.inquiry.choices, answer.scores, strict=True)
        text = "\n".join([text, *(f"{choice} {score:.2f}" for choice, score in pairs)])
    moment = answer.moment
    return (
        text,
        f"{answer.ttft * 1e3:.0f} ms",
        f"{answer.total_time * 1e3:.0f} ms",
        str(moment.frames),
        str(moment.cache_tokens),
        f"{moment.cache_bytes / MIB:.2f}",
    )
