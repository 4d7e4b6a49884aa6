"""The same recording asked about offline, and live: replayed over DDS to the real node, asked through its service."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("stream_vl_ros.srv", reason="the package was not built: run `make build`")

from ament_index_python.packages import get_package_prefix

from stream_vl_ros.bag.ask_bag import main
from stream_vl_ros.demo.main import BAG as DEMO
from stream_vl_ros.demo.processes import Child, Event, end_all

Env = dict[str, str]
Until = Callable[[Callable[[Event], bool], float], Event]
TOPIC = "/camera/image_raw"
QUESTIONS = (
    {"question": "How many objects are there?", "choices": []},
    {"question": "Which way does the red circle move?", "choices": ["left", "right", "up", "down"]},
    {"question": "What happened so far?", "choices": []},
)


@pytest.fixture
def live(ros_env: Env, tmp_path: Path) -> Iterator[tuple[Child, Until]]:
    """A node with the embedded model, something that asks it, and a wait for what they say."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    parameters = {"device": "cpu", "image_topic": TOPIC, "qos_reliability": "reliable", "qos_depth": 100}
    arguments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    executable = Path(get_package_prefix("stream_vl_ros")) / "lib" / "stream_vl_ros" / "stream_vl_node"
    command = [sys.executable, str(executable), "--ros-args", *arguments]
    node = Child("node", command, env=ros_env, log=tmp_path / "node.log")
    asker = Child(
        "asker", [sys.executable, "-m", "stream_vl_ros.demo.asker"], env=ros_env, log=tmp_path / "a.log", events=events
    )

    def until(wanted: Callable[[Event], bool], seconds: float) -> Event:
        deadline = time.monotonic() + seconds
        while True:
            try:
                event = events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"it did not come within {seconds} s; the node said:\n{node.tail()}\n{asker.tail()}")
            if wanted(event):
                return event

    try:
        until(lambda e: e["event"] == "status" and e["state"] == "active" and e["service"], 90)
        yield asker, until
    finally:
        end_all((node, asker))


@pytest.mark.slow
def test_the_same_answers(live: tuple[Child, Until], ros_env: Env, tmp_path: Path) -> None:
    asker, until = live
    # Images up to 9.5 s from the first one: 39 at 4 a second.
    command = [sys.executable, "-m", "stream_vl_ros.bag.replay", str(DEMO), "--to", TOPIC, "--duration", "9.6"]
    subprocess.run(
        [*command, "--rate", "4", "--wait-for-subscribers", "1"], env=ros_env, check=True, timeout=60
    )  # fmt: skip
    until(lambda e: e["event"] == "status" and e["frames_received"] == 39 and e["frames_dropped"] == 0, 30)
    answers: list[dict[str, Any]] = []
    for number, question in enumerate(QUESTIONS):
        asker.send(id=number, timeout=60, max_new_tokens=20, **question)
        answers.append(until(lambda e: e["event"] == "answer", 70))

    words: list[str] = []
    for question in QUESTIONS:
        words += ["-q", str(question["question"]), "--at", "9.5"]
        words += ["--choices", ",".join(question["choices"])] if question["choices"] else []
    file = tmp_path / "out.json"
    assert main([str(DEMO), *words, "--device", "cpu", "--max-new-tokens", "20", "--json", str(file)]) == 0
    for online, offline in zip(answers, json.loads(file.read_text())["questions"], strict=True):
        assert online["success"], online["error"]
        for name in ("answer", "answer_tokens", "frames_seen", "first_stamp", "last_stamp"):
            assert online[name] == offline[name], name
        assert online["scores"] == pytest.approx(offline["scores"], abs=1e-4)
