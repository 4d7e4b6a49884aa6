"""Tell a person, or another process, what a replay does."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stream_vl_ros.bag.play_events import Listener, Result, Sent, Started


class PlainReport:
    """A few lines on stderr, as logs like them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._waited = False

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def waiting(self, topic: str, found: int, wanted: int) -> None:
        if not self._waited:
            self._say(f"waiting for subscribers on {topic}: {found} of {wanted}")
        self._waited = True

    def started(self, started: Started) -> None:
        names = " and ".join(started.topics)
        self._say(
            f"replaying {started.start:.1f} to {started.until:.1f} s of {started.images} recorded images on {names}"
        )

    def sent(self, image: Sent) -> None:
        pass

    def finished(self, result: Result) -> None:
        self._say(summary(result))

    def close(self) -> None:
        pass


class BarReport(PlainReport):
    """The same with a progress bar, on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.1f} of {task.total:.1f} s, {task.fields[images]} images"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )

    def started(self, started: Started) -> None:
        super().started(started)
        self._start = started.start
        names = " ".join(started.topics)
        self._task = self._bar.add_task(names, total=started.until - started.start, images=0)
        self._bar.start()

    def sent(self, image: Sent) -> None:
        self._bar.update(self._task, completed=image.position - self._start, images=image.number)

    def finished(self, result: Result) -> None:
        self._bar.stop()
        super().finished(result)

    def close(self) -> None:
        self._bar.stop()


class JsonReport:
    """One JSON object a line on stdout; the key `event` is waiting, started, sent or finished."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def _emit(self, event: str, **values: object) -> None:
        print(json.dumps({"event": event, **values}), file=self._stream, flush=True)

    def waiting(self, topic: str, found: int, wanted: int) -> None:
        self._emit("waiting", topic=topic, found=found, wanted=wanted)

    def started(self, started: Started) -> None:
        self._emit(
            "started",
            topics=dict(started.topics),
            images=started.images,
            start=round(started.start, 6),
            until=round(started.until, 6),
        )

    def sent(self, image: Sent) -> None:
        self._emit(
            "sent",
            number=image.number,
            topic=image.topic,
            stamp=image.stamp,
            position=round(image.position, 6),
            late=round(image.late, 6),
        )

    def finished(self, result: Result) -> None:
        self._emit(
            "finished",
            published=result.published,
            topics=dict(result.topics),
            acknowledged=result.acknowledged,
            stopped=result.stopped,
            late=result.lateness.late,
            worst_late=round(result.lateness.worst, 6),
            mean_late=round(result.lateness.mean, 6),
        )

    def close(self) -> None:
        pass


def summary(result: Result) -> str:
    """One line about a replay that is over."""
    sent = f"{'stopped' if result.stopped else 'done'}: {result.published} images sent"
    if len(result.topics) > 1:
        sent += f" ({', '.join(f'{count} on {name}' for name, count in result.topics.items())})"
    parts = [sent, str(result.lateness)]
    if not result.acknowledged:
        parts.append("not all of them were acknowledged by every subscriber")
    return ", ".join(parts)


def make_report(*, bar: bool, as_json: bool) -> Listener:
    """The listener that the flags ask for; the bar only on a terminal."""
    if as_json:
        return JsonReport()
    return BarReport() if bar and sys.stderr.isatty() else PlainReport()
