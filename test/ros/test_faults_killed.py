"""A node that is killed, and the one that is started after it, on a domain where the dead one may linger."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from stream_vl_ros.demo.scene import FPS, demo_clip

SECOND = 1_000_000_000
START = 1_700_000_000
QUESTION = "What is visible now?"
RIGHT = "a red circle"


@pytest.fixture
def ros_env(ros_env: dict[str, str], private_domain_id: int) -> dict[str, str]:
    return ros_env | {"ROS_DOMAIN_ID": str(private_domain_id)}


@pytest.fixture
def robot(robot, private_domain_id: int) -> Iterator[object]:
    it = type(robot)(private_domain_id)
    yield it
    it.close()


@pytest.fixture
def scene() -> np.ndarray:
    """Pictures of the demo's first seconds, 2 in each."""
    return demo_clip(end=8.0)[0][:: FPS // 2]


def show(robot, scene: np.ndarray, begin: int, end: int) -> None:
    for i in range(begin, end):
        robot.publish(scene[i % len(scene)], START * SECOND + i * SECOND // 2)


def test_killed_and_restarted(start_node, robot, scene):
    """kill -9 in mid-answer: camera and client live on, and the node that comes after it serves them."""
    first = start_node(model="embedded")
    show(robot, scene, 0, 8)
    robot.settled(8)
    assert robot.result(robot.ask(QUESTION)).answer == RIGHT
    lost = robot.ask("What happened so far?", max_new_tokens=1000)
    robot.spin_for(0.02)
    first.process.kill()
    first.process.wait(10)
    began = time.monotonic()
    second = start_node(model="embedded")
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "active", 60, "the new node is active")
    assert robot.statuses[-1].frames_received == 0
    shown = 8
    while not robot.statuses[-1].frames_received:
        assert time.monotonic() - began < 60, "the camera's images never reach the new node"
        show(robot, scene, shown, shown + 1)
        shown += 1
        robot.spin_for(0.3)
    show(robot, scene, shown, shown + 8)
    robot.spin_until(lambda: robot.statuses[-1].frames_ingested >= 8, 30, "the new node takes images")
    answered = None
    while answered is None:
        assert time.monotonic() - began < 90, "no question reaches the new node"
        future = robot.ask(QUESTION)
        end = time.monotonic() + 5
        while not future.done() and time.monotonic() < end:
            robot.spin_for(0.1)
        answered = future.result() if future.done() else None
    assert (answered.success, answered.answer) == (True, RIGHT), answered.error
    assert robot.unaccounted(robot.statuses[-1]) == 0
    assert not lost.done() or lost.result().success
    assert second.stop() == 0 and "Traceback" not in second.log
