"""A node whose callbacks fail, whose executor is held up, or that is not the only one of its name."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from std_srvs.srv import Trigger
from stream_vl_ros.srv import Memory, Watch

from stream_vl_ros.demo.scene import FPS, demo_clip

pytestmark = pytest.mark.alone

SECOND = 1_000_000_000
START = 1_700_000_000
QUESTION = "What is visible now?"
RIGHT = "a red circle"


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Pictures of the demo's first seconds, 2 in each."""
    return demo_clip(end=8.0)[0][:: FPS // 2]


def show(robot, scene: np.ndarray, begin: int, end: int) -> None:
    for i in range(begin, end):
        robot.publish(scene[i % len(scene)], START * SECOND + i * SECOND // 2)


def right(robot) -> None:
    reply = robot.result(robot.ask(QUESTION))
    assert (reply.success, reply.answer) == (True, RIGHT), reply.error


@pytest.fixture
def spoilt(robot, ros_env, tmp_path: Path) -> Iterator[tuple[Callable[[str], None], Path, subprocess.Popen]]:
    """`order("image")` lets that callback of a node with the embedded model fail once."""
    orders, log = tmp_path / "orders", tmp_path / "node.log"
    orders.mkdir()
    parameters = {
        "model": "embedded", "device": "cpu", "image_topic": robot.topic, "qos_reliability": "reliable",
        "qos_depth": 1000, "target_fps": 0.0, "flush_after": 0.5,
    }  # fmt: skip
    arguments = [a for name, value in parameters.items() for a in ("-p", f"{name}:={value}")]
    robot.statuses.clear()
    robot.answers.clear()
    with log.open("w") as out:
        node = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("spoilt_node.py")), str(orders), "--ros-args", *arguments],
            env=ros_env, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def order(name: str) -> None:
        (orders / name).touch()

    try:
        robot.wait_ready()
        yield order, log, node
        node.send_signal(signal.SIGINT)
        assert node.wait(10) == 0, log.read_text()
    finally:
        node.kill()
        node.wait()


def test_callbacks_that_fail_and_an_executor_that_starves(spoilt, robot, scene):
    order, log, node = spoilt
    orders = log.parent / "orders"
    show(robot, scene, 0, 4)
    robot.settled(4)
    shown = 4
    for name in ("status", "diagnostics"):
        order(name)
        robot.spin_until(lambda name=name: not (orders / name).exists(), 10, f"{name} failed")
        robot.statuses.clear()
        robot.spin_until(lambda: robot.statuses, 10, "the next status comes")
    for name in ("image", "debug_image"):
        order(name)
        show(robot, scene, shown, shown + 5)
        robot.spin_until(lambda name=name: not (orders / name).exists(), 10, f"{name} failed")
        shown += 5
    # The one that could not be handed over is counted all the same.
    status = robot.settled(shown, waiting=1)
    assert status.frames_received == shown and robot.unaccounted(status) == 0
    assert dict(zip(status.drop_reasons, status.drop_counts, strict=True)) == {"node_error": 1}
    order("response")
    refused = robot.result(robot.ask(QUESTION))
    assert not refused.success and "ValueError: out of the blue, in response" in refused.error
    order("answer")
    right(robot)
    for name, kind, request in (
        ("reset", Trigger, Trigger.Request()),
        ("snapshot", Memory, Memory.Request(name="kitchen")),
        ("watch", Watch, Watch.Request(command="add", name="door", question="Is it open?")),
    ):
        order(name)
        client = robot.node.create_client(kind, f"/stream_vl/{name}")
        robot.reach(client)
        reply = robot.result(client.call_async(request))
        robot.node.destroy_client(client)
        error = reply.message if name == "reset" else reply.error
        assert not reply.success and f"the node failed: ValueError: out of the blue, in {name}" in error
    assert not list(orders.iterdir())
    right(robot)
    text = log.read_text()
    for name in ("status", "diagnostics", "image", "debug_image", "response", "answer", "reset", "snapshot", "watch"):
        assert f"out of the blue, in {name}" in text, f"nothing of {name} in the log"
    assert node.poll() is None

    # Held up for three quarters of the time, while video and questions come.
    order("starve")
    began = time.monotonic()
    asked = [robot.ask(QUESTION, timeout=20.0) for _ in range(6)]
    show(robot, scene, shown, shown + 24)
    for future in asked:
        reply = robot.result(future, 30)
        assert reply.success and reply.answer == RIGHT, reply.error
    assert time.monotonic() - began < 20
    status = robot.settled(shown + 24, waiting=1)
    (orders / "starve").unlink()
    assert (status.frames_received, status.frames_dropped) == (shown + 24, 1)
    assert robot.unaccounted(status) == 0
    right(robot)
    robot.statuses.clear()
    robot.questions_settled(0)

    # The engine's thread ends: the node says so, and goes on counting.
    order("engine")
    ended = robot.result(robot.ask(QUESTION))
    assert not ended.success and "shut down" in ended.error
    show(robot, scene, shown + 24, shown + 28)
    status = robot.settled(shown + 28)
    drops = dict(zip(status.drop_reasons, status.drop_counts, strict=True))
    assert drops["shutdown"] in (4, 5) and drops["node_error"] == 1  # one may have waited for another to be a pair
    assert status.state == "error" and "the engine stopped" in status.message and robot.unaccounted(status) == 0
    refused = robot.result(robot.ask(QUESTION))
    assert not refused.success and "shut down" in refused.error
    status = robot.questions_settled(status.questions_asked + 1)
    assert dict(zip(status.refuse_reasons, status.refuse_counts, strict=True))["shutdown"] == 2


def test_two_nodes_of_the_same_name(start_node, robot, scene):
    """Both say so, once, and both work; when one ends the other goes on alone."""
    robot.spin_until(lambda: not robot.camera.get_subscription_count(), 30, "nodes of other tests are gone")
    first = start_node(model="embedded")
    second = start_node(model="embedded", ready=False)
    for node in (first, second):
        robot.spin_until(lambda node=node: "2 nodes are called /stream_vl" in node.log, 30, "both warn")
    robot.spin_until(lambda: robot.camera.get_subscription_count() == 2, 60, "both watch")
    robot.spin_until(lambda: "active, watching" in second.log, 30, "the second one is active")
    show(robot, scene, 0, 8)
    robot.settled(8)
    robot.spin_for(1.5)
    for _ in range(4):
        right(robot)
    assert first.log.count("2 nodes are called") == second.log.count("2 nodes are called") == 1
    assert "node_name:=" in first.log
    assert first.stop() == 0
    robot.spin_until(lambda: robot.camera.get_subscription_count() == 1, 10, "one of them is left")
    show(robot, scene, 8, 12)
    robot.statuses.clear()
    status = robot.settled(12)
    assert (status.frames_ingested, robot.unaccounted(status)) == (12, 0)
    right(robot)
    assert second.process.poll() is None and "Traceback" not in second.log
