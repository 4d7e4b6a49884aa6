"""Child processes that talk in JSON lines, log to a file, and never outlive the demo."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from stream_vl_ros.demo.errors import DemoError

Event = dict[str, Any]
TAIL_LINES = 25


class Child:
    """One process, in a process group of its own.

    Attributes:
        name: for messages.
        log: file that takes its stderr, and its stdout unless events are read from there.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        events: queue.SimpleQueue[Event] | None = None,
    ) -> None:
        """Start it. With `events`, every JSON line of its stdout is put there.

        Raises:
            DemoError: the program cannot be started.
        """
        self.name = name
        self.log = log
        try:
            with log.open("wb") as out:
                self._process = subprocess.Popen(
                    command,
                    env=dict(env),
                    stdin=subprocess.PIPE,
                    stdout=out if events is None else subprocess.PIPE,
                    stderr=out,
                    start_new_session=True,
                )
        except OSError as err:
            raise DemoError(f"The {name} cannot be started: {err}. Command: {' '.join(command)}") from err
        self._reader: threading.Thread | None = None
        if events is not None:
            self._reader = threading.Thread(target=self._read, args=(events,), name=f"read {name}", daemon=True)
            self._reader.start()

    def _read(self, events: queue.SimpleQueue[Event]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Libraries print to stdout as well now and then.
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    events.put(event)

    def send(self, **values: object) -> None:
        """Write one JSON line to its stdin; nothing happens if it is gone, as `exit_code` tells."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(values).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs. Once it is set, all its events are in the queue."""
        code = self._process.poll()
        if code is not None and self._reader is not None:
            self._reader.join(timeout=2)
        return code

    def tail(self) -> str:
        """The last lines of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError as err:
            return f"(its log cannot be read: {err})"
        return "\n".join(lines[-TAIL_LINES:]) or "(its log is empty)"

    def last_line(self) -> str:
        """The last line of its log, empty if there is none."""
        lines = self.tail().splitlines()
        return lines[-1].strip() if lines else ""

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C would."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and everything that it started, at once."""
        self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)

    def _signal(self, number: signal.Signals) -> None:
        # Its group outlives it if it left children of its own behind.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def end_all(children: Sequence[Child], *, patience: float = 5.0) -> None:
    """End all of them: politely first, after `patience` seconds by force."""
    for child in children:
        if child.exit_code is None:
            child.interrupt()
    deadline = time.monotonic() + patience
    while any(child.exit_code is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in children:
        child.kill()


def interruptible() -> None:
    """Let SIGTERM end this process as Ctrl-C does, and Ctrl-C wherever it was started."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    # Started in the background of a script, it was told to ignore this; its processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
