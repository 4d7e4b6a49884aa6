"""The examples that are ROS nodes, each run as a user would, against the embedded model and the demo's scene."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from geometry_msgs.msg import Twist
from stream_vl_ros.srv import Watch

from stream_vl_ros.demo.scene import demo_clip

EXAMPLES = Path(__file__).parents[2] / "examples"
SECOND = 1_000_000_000
START = 1_700_000_000


class Example:
    """A running example; its lines are read as they come."""

    def __init__(self, env: dict[str, str], name: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / name), *arguments],
            env={**env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def has(self, text: str) -> bool:
        return text in self.text


@pytest.fixture
def example(ros_env):
    started: list[Example] = []

    def start(name: str, *arguments: str) -> Example:
        started.append(Example(ros_env, name, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def show(robot, begin: float, end: float) -> None:
    frames, stamps = demo_clip(end)
    for picture, second in zip(frames, stamps, strict=True):
        if second >= begin:
            robot.publish(picture, START * SECOND + round(second * SECOND))


def test_ask(start_node, robot, example):
    start_node(model="embedded", target_fps=2.0)
    show(robot, 0, 10)
    robot.settled(40, waiting=1)
    free = example("ros_ask.py", "What is visible now?")
    robot.spin_until(lambda: free.process.poll() is not None, 30, "it ends")
    robot.spin_until(lambda: free.has("frames seen"), 5, "it was read")
    assert free.process.returncode == 0, free.text
    assert "a red circle, a blue square" in free.text
    chosen = example("ros_ask.py", "Is there a blue square?", "--choices", "yes", "no")
    robot.spin_until(lambda: chosen.process.poll() is not None, 30, "it ends")
    robot.spin_until(lambda: len(chosen.lines) == 3, 5, "it was read")
    assert (chosen.process.returncode, chosen.lines[0]) == (0, "yes")


def test_ask_is_stopped_by_ctrl_c(start_node, robot, example, pictures, endless_checkpoint):
    start_node(model=endless_checkpoint, max_new_tokens=100_000, ask_timeout=300.0)
    for i in range(8):
        robot.publish(pictures[i], START * SECOND + i * SECOND // 2)
    robot.settled(8)
    long = example("ros_ask.py", "What is it?")
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].questions_active == 1, 30, "it is being answered")
    robot.spin_for(0.5)
    long.process.send_signal(signal.SIGINT)
    robot.spin_until(lambda: long.process.poll() is not None, 20, "it ends")
    robot.spin_until(
        lambda: robot.statuses and robot.statuses[-1].questions_active == 0, 10, "the answer was cancelled"
    )
    assert long.process.returncode == 1
    robot.spin_until(lambda: long.has("cancelled"), 5, "it says so")


def test_stop_on_watch(start_node, robot, example):
    start_node(model="embedded", target_fps=2.0)
    sent: list[float] = []
    subscription = robot.node.create_subscription(Twist, "/cmd_vel", lambda m: sent.append(m.linear.x), 10)
    driver = robot.node.create_publisher(Twist, "/cmd_vel_in", 10)
    watches = robot.node.create_client(Watch, "/stream_vl/watch")
    forward = Twist()
    forward.linear.x = 0.5
    try:
        stop = example("ros_stop_on_watch.py", "Is there a red circle?", "--threshold", "0.8")
        robot.spin_until(lambda: stop.has("watching:"), 30, "the watch is there")
        robot.spin_until(
            lambda: driver.get_subscription_count() and robot.node.count_publishers("/cmd_vel"), 10, "both"
        )

        def drives(speed: float) -> bool:
            driver.publish(forward)
            robot.spin_for(0.1)
            return bool(sent) and sent[-1] == speed

        robot.spin_until(lambda: drives(0.5), 10, "it drives before there is anything to see")
        show(robot, 0, 4)
        robot.spin_until(lambda: stop.has("STOP"), 20, "the circle stops it")
        robot.spin_until(lambda: drives(0.0), 10, "it stands")
        before = len(stop.lines)
        watches.call_async(Watch.Request(command="remove", name="stop"))

        def asked_again() -> bool:
            return any(line.startswith("STOP at") for line in stop.lines[before:])

        robot.spin_until(lambda: drives(0.5) or asked_again(), 15, "it is asked again, and fires")
        assert sent[-1] == 0 and not stop.has("go"), "who takes its watch away does not release it"
        show(robot, 4, 16)  # the circle leaves at 12 s
        robot.spin_until(lambda: stop.has("go at"), 20, "it may go on")
        robot.spin_until(lambda: drives(0.5), 10, "it drives again")
        stop.process.send_signal(signal.SIGINT)
        robot.spin_until(lambda: stop.process.poll() is not None, 10, "it ends")
        assert stop.process.returncode == 0, stop.text
        robot.spin_until(lambda: robot.statuses and robot.statuses[-1].watches == 0, 10, "its watch is gone")
    finally:
        robot.node.destroy_subscription(subscription)
        robot.node.destroy_publisher(driver)
        robot.node.destroy_client(watches)


def test_memory(start_node, robot, example, tmp_path):
    start_node(model="embedded", target_fps=2.0, image_timeout=0.0, memory_folder=tmp_path / "memories")
    show(robot, 0, 8)
    robot.settled(32, waiting=1)

    def said(*arguments: str) -> list[str]:
        one = example("ros_memory.py", *arguments)
        robot.spin_until(lambda: one.process.poll() is not None, 30, "it ends")
        robot.spin_until(lambda: len(one.lines) >= (1 if one.process.returncode else 2), 5, "it was read")
        return [str(one.process.returncode), *one.lines]

    code, kept, last = said("keep", "circle")
    assert (code, last) == ("0", "done") and kept.startswith("circle, ") and kept.endswith(" tokens")
    code, state, size = said("status")
    assert code == "0" and state == "active: 16 frames seen, 0 forgotten"
    assert "MiB, all is well" in size
    assert said("back", "circle")[0] == "0"
    assert said("save", "on disk")[1:] == [kept.replace("circle", "on disk"), "done"]
    assert said("load", "on disk")[1:] == [kept.replace("circle", "on disk"), "done"]
    code, reason = said("back", "kitchen")
    assert code == "1" and "no memory of that name; kept are 'circle'" in reason
