"""The examples, each run as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(name: str, *arguments: str) -> tuple[int, str, str]:
    process = start(name, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_answer_video(footage):
    status, out, err = run("answer_video.py", str(footage("carphone")), "What is visible now?", "How many?")
    assert status == 0, err
    lines = out.strip().splitlines()
    assert sum("[8 frames, first token" in line for line in lines) == 2
    status, _, err = run("answer_video.py", "nothing.mp4", "What?")
    assert status == 1
    assert err.strip().endswith("answer_video: Video 'nothing.mp4' does not exist.")


def test_watch_camera():
    process = start("watch_camera.py", "toy")
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    while "Ask something" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(2)
    answers = []
    for question in ("What is visible now?", "Is it still there?"):
        process.stdin.write(question + "\n")
        process.stdin.flush()
        answers.append(process.stdout.readline())
        time.sleep(1)
    assert answers[0].startswith("a red circle  [")
    assert answers[1].startswith("yes  [")
    # It went on watching while nobody asked.
    seen = [int(a.split("[")[1].split()[0]) for a in answers]
    assert seen[1] > seen[0]
    process.stdin.close()
    assert process.wait(20) == 0


def test_watch_camera_without_a_camera():
    process = start("watch_camera.py", "nothing.mp4")
    out, err = process.communicate("What is there?\n", timeout=60)
    assert process.returncode == 0
    assert "no video yet" in out
    assert "watch_camera: nothing.mp4:" in err


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (
            "fork_and_compare.py",
            [
                "forks own 0 bytes",
                "at 10 s: a red circle, a blue square ",
                "at 24 s: a green triangle, a yellow square",
                "What appeared last? a green triangle. Where is it? top left.",
            ],
        ),
        (
            "multiple_choice.py",
            ["the green triangle? top left", "before the green triangle? a blue square", "appear so far? yes"],
        ),
    ],
)
def test_prints_what_is_right(name, shown):
    status, out, err = run(name)
    assert status == 0, err
    for line in shown:
        assert line in out


def test_every_example_is_run_and_described():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    tests = "".join(p.read_text() for p in (Path(__file__), ROOT / "test" / "ros" / "test_ros_examples.py"))
    readme = (ROOT / "README.md").read_text()
    assert all(name in tests for name in names)
    assert all(f"examples/{name}" in readme for name in names)
