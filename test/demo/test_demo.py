"""The demo command as a user runs it: real processes, real DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("stream_vl_ros.srv", reason="the package is not built")

Env = dict[str, str]
# Loading PyTorch three times on a busy machine takes its time.
LIMIT = 150


def _command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "stream_vl_ros.demo", "--model", "random", "--device", "cpu", *map(str, args)]


def _run(env: Env, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(*args), env=env, capture_output=True, text=True, timeout=LIMIT, check=False)


@contextmanager
def _running(env: Env) -> Iterator[subprocess.Popen[str]]:
    """A demo that has asked its first question."""
    process = subprocess.Popen(
        _command("--max-new-tokens", "4"), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if " Q1 " in line:
                break
        yield process
    finally:
        process.kill()
        process.wait()


def _children(pid: int) -> dict[str, int]:
    """Processes that `pid` started: the last parts of their command lines, and their ids."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            words = (stat.parent / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            for name in ("stream_vl_node", "stream_vl_ros.bag.replay", "stream_vl_ros.demo.asker"):
                if any(word.endswith(name) for word in words):
                    found[name] = int(stat.parent.name)
    return found


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_own_bag_from_end_to_end(footage: Callable[[str], Path], tmp_path: Path, ros_env: Env) -> None:
    from stream_vl_ros.bag.video_to_bag import main as video_to_bag

    bag = tmp_path / "street"
    arguments = [str(footage("bikes")), "--out", str(bag), "--duration", "5", "--size", "160x68", "--topic", "/street"]
    assert video_to_bag([*arguments, "--storage", "sqlite3", "--fps", "10"]) == 0
    done = _run(ros_env, "--bag", bag, "--ask", "What drives there?", "--ask", "And now?", "--max-new-tokens", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 published, 50 received = " in done.stdout
    assert "never trained, and its answers mean nothing" in done.stdout
    for number, text in ((1, "What drives there?"), (2, "And now?")):
        assert f"Q{number}  {text}" in done.stdout
        assert f"A{number}  " in done.stdout
    assert "first token" in done.stdout
    assert "MiB" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_dying_node_is_a_failure_with_its_last_words(ros_env: Env) -> None:
    with _running(ros_env) as demo:
        children = _children(demo.pid)
        assert set(children) == {"stream_vl_node", "stream_vl_ros.bag.replay", "stream_vl_ros.demo.asker"}
        os.kill(children["stream_vl_node"], signal.SIGKILL)
        _, err = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "The node died with code -9" in err
    assert "ready after" in err
    assert all(_gone(pid) for pid in children.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(ros_env: Env, number: signal.Signals) -> None:
    with _running(ros_env) as demo:
        children = _children(demo.pid)
        demo.send_signal(number)
        _, err = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert "Traceback" not in err
    deadline = time.monotonic() + 5
    while not all(_gone(pid) for pid in children.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) == 3
    assert all(_gone(pid) for pid in children.values())


def test_errors_come_with_a_reason(ros_env: Env, tmp_path: Path) -> None:
    done = _run(ros_env, "--bag", tmp_path / "none")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    done = _run(ros_env, "--model", tmp_path / "no_model")
    assert done.returncode == 1
    assert "no_model" in done.stderr
    assert "cannot load model" in done.stderr
