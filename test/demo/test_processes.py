"""Child processes: they are ended, whatever they do, and so is what they started."""

from __future__ import annotations

import os
import queue
import sys
import time
from pathlib import Path

import pytest

from stream_vl_ros.demo.errors import DemoError
from stream_vl_ros.demo.processes import Child, Event, end_all

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(2, signal.SIG_IGN); time.sleep(60)"])
print('{"event": "pids", "pids": [%d, %d]}' % (os.getpid(), child.pid), flush=True)
time.sleep(60)
"""


def _start(tmp_path: Path, code: str) -> tuple[Child, queue.SimpleQueue[Event]]:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    return Child("child", [sys.executable, "-c", code], env=os.environ, log=tmp_path / "log", events=events), events


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_stubborn_processes_and_their_children_are_killed(tmp_path: Path) -> None:
    child, events = _start(tmp_path, STUBBORN)
    pids = events.get(timeout=10)["pids"]
    end_all([child], patience=0.3)
    deadline = time.monotonic() + 5
    while not all(_gone(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(_gone(pid) for pid in pids)


def test_polite_processes_may_finish(tmp_path: Path) -> None:
    child, events = _start(
        tmp_path,
        'import time\ntry:\n    print(\'{"event": "up"}\', flush=True)\n    time.sleep(60)\n'
        'except KeyboardInterrupt:\n    print(\'{"event": "bye"}\', flush=True)',
    )
    assert events.get(timeout=10) == {"event": "up"}
    end_all([child])
    assert child.exit_code == 0
    assert events.get(timeout=1) == {"event": "bye"}


def test_talks_both_ways_and_ignores_noise(tmp_path: Path) -> None:
    code = "import sys\nprint('noise')\nprint('[1]')\nprint(sys.stdin.readline(), flush=True)\nsys.exit('the end')"
    child, events = _start(tmp_path, code)
    child.send(event="hello", number=3)
    assert events.get(timeout=10) == {"event": "hello", "number": 3}
    while child.exit_code is None:
        time.sleep(0.02)
    child.send(event="nobody listens")
    assert child.exit_code == 1
    assert child.tail() == "the end"
    end_all([child])


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="cannot be started"):
        Child("node", [str(tmp_path / "none")], env=os.environ, log=tmp_path / "log")
