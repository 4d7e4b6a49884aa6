"""Tell a person, or another process, what a replay does."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stream_vl_ros.bag.player import Listener, Result, Sent


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

    def started(self, topic: str, images: int, seconds: float) -> None:
        self._say(f"replaying {images} images over {seconds:.1f} s on {topic}")

    def sent(self, image: Sent) -> None:
        pass

    def finished(self, result: Result) -> None:
        self._say(summary(result))


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

    def started(self, topic: str, images: int, seconds: float) -> None:
        super().started(topic, images, seconds)
        self._task = self._bar.add_task(topic, total=seconds, images=0)
        self._bar.start()

    def sent(self, image: Sent) -> None:
        self._bar.update(self._task, completed=image.position, images=image.number)

    def finished(self, result: Result) -> None:
        self._bar.stop()
        super().finished(result)


class JsonReport:
    """One JSON object a line on stdout; the key `event` is waiting, started, sent or finished."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def _emit(self, event: str, **values: object) -> None:
        print(json.dumps({"event": event, **values}), file=self._stream, flush=True)

    def waiting(self, topic: str, found: int, wanted: int) -> None:
        self._emit("waiting", topic=topic, found=found, wanted=wanted)

    def started(self, topic: str, images: int, seconds: float) -> None:
        self._emit("started", topic=topic, images=images, seconds=seconds)

    def sent(self, image: Sent) -> None:
        self._emit(
            "sent", number=image.number, stamp=image.stamp, position=round(image.position, 6), late=round(image.late, 6)
        )

    def finished(self, result: Result) -> None:
        self._emit(
            "finished",
            published=result.published,
            acknowledged=result.acknowledged,
            stopped=result.stopped,
            late=result.lateness.late,
            worst_late=round(result.lateness.worst, 6),
            mean_late=round(result.lateness.mean, 6),
        )


def summary(result: Result) -> str:
    """One line about a replay that is over."""
    parts = [f"{'stopped' if result.stopped else 'done'}: {result.published} images sent", str(result.lateness)]
    if not result.acknowledged:
        parts.append("not all of them were acknowledged by every subscriber")
    return ", ".join(parts)


def make_report(*, bar: bool, as_json: bool) -> Listener:
    """The listener that the flags ask for; the bar only on a terminal."""
    if as_json:
        return JsonReport()
    return BarReport() if bar and sys.stderr.isatty() else PlainReport()
