"""A camera that restarts with other pictures and falls silent, and a recording that loops a hundred times."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from stream_vl_ros.bag.writer import ImageBagWriter
from stream_vl_ros.demo.scene import FPS, demo_clip

SECOND = 1_000_000_000
START = 1_700_000_000
QUESTION = "What is visible now?"
RIGHT = "a red circle"
ROUNDS = 100


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Pictures of the demo's first seconds, 2 in each."""
    return demo_clip(end=8.0)[0][:: FPS // 2]


class Camera:
    """A driver of its own, which can go away."""

    def __init__(self, robot, topic: str) -> None:
        self._robot = robot
        reliable = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        self._publisher = robot.node.create_publisher(Image, topic, reliable)
        robot.spin_until(lambda: self._publisher.get_subscription_count() > 0, 20, "the node finds the camera")

    def show(self, pictures: np.ndarray, begin: int, encoding: str = "rgb8", **fields: object) -> None:
        """From frame `begin` on, 2 a second."""
        for i, picture in enumerate(pictures, begin):
            step = picture.strides[0]
            message = Image(height=picture.shape[0], width=picture.shape[1], encoding=encoding, step=step)
            message.header.stamp = Time(sec=START + i // 2, nanosec=i % 2 * SECOND // 2)
            message.data = picture.tobytes()
            for name, value in fields.items():
                setattr(message, name, value)
            self._publisher.publish(message)

    def off(self) -> None:
        self._robot.node.destroy_publisher(self._publisher)


def test_restarts_with_other_pictures_and_falls_silent(start_node, robot, scene):
    """Another size, another encoding, pictures that are none; then nothing, for longer than it may be."""
    topic = "/test/faulty_camera"
    node = start_node(ready=False, model="embedded", image_topic=topic, image_timeout=3.0)
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "active", 60, "the node is ready")
    robot.reach(robot.ask_client)
    larger = np.repeat(np.repeat(scene, 2, axis=1), 2, axis=2)
    shown = 0
    for pictures, encoding in ((scene, "rgb8"), (larger, "bgr8"), (scene[:, ::2, ::2].copy(), "rgb8")):
        camera = Camera(robot, topic)
        camera.show(pictures[:4] if encoding == "rgb8" else pictures[:4, ..., ::-1].copy(), shown, encoding)
        shown += 4
        status = robot.settled(shown)
        assert (status.frames_ingested, status.frames_dropped) == (shown, 0)
        assert (status.frame_width, status.frame_height) == (112, 112), "what the stream began with"
        reply = robot.result(robot.ask(QUESTION))
        assert (reply.answer, reply.frames_seen) == (RIGHT, shown)
        camera.off()
    camera = Camera(robot, topic)
    camera.show(scene[:1], shown, "rgb8", step=7)
    camera.show(scene[:1], shown, "nonsense")
    robot.spin_until(lambda: sum(robot.statuses[-1].drop_counts) == 2, 10, "both are counted")
    camera.off()
    assert len(robot.statuses[-1].drop_reasons) == 2 and "nonsense" in robot.statuses[-1].message

    robot.spin_until(lambda: f"no image on {topic}" in robot.statuses[-1].message, 15, "the silence is told of")
    assert robot.statuses[-1].publishers == 0 and f"no image on {topic}" in node.log
    assert robot.result(robot.ask(QUESTION)).answer == RIGHT, "what was seen is there still"
    camera = Camera(robot, topic)
    camera.show(scene[4:8], shown)
    status = robot.settled(shown + 6)
    assert (status.frames_ingested, robot.unaccounted(status)) == (shown + 4, 0)
    assert "no image on" not in status.message
    assert robot.result(robot.ask(QUESTION)).answer == RIGHT
    camera.off()
    assert "Traceback" not in node.log


def memory(node) -> float:
    """MiB that the node's process alone has written to."""
    lines = Path(f"/proc/{node.process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1024


def test_a_recording_that_loops_a_hundred_times(start_node, robot, ros_env, scene, tmp_path: Path):
    """Every jump is counted, memory stays where it was after the first rounds, stamps are the recording's."""
    bag, count = tmp_path / "bag", 8
    with ImageBagWriter(bag, storage="mcap") as writer:
        for i in range(count):
            writer.write(scene[i], START * SECOND + i * SECOND // 2)
    node = start_node(model="embedded", eviction="window", budget_tokens=256, on_time_jump="mark")
    command = [
        sys.executable, "-m", "stream_vl_ros.bag.replay", str(bag), "--to", robot.topic, "--loop", "--loop-stamps",
        "repeat", "--rate", "25", "--wait-for-subscribers", "1", "--progress-json",
    ]  # fmt: skip
    told = tmp_path / "player.jsonl"
    with told.open("w") as out:  # more than a pipe holds
        player = subprocess.Popen(command, env=ros_env, stdout=out)
    try:
        held = []
        for rounds in (ROUNDS * i // 5 for i in range(1, 6)):
            robot.spin_until(
                lambda rounds=rounds: robot.statuses[-1].frames_received >= rounds * count, 60, f"round {rounds}"
            )
            # What a question needs once stays with the C library.
            assert robot.result(robot.ask(QUESTION)).answer == RIGHT, "while it loops"
            held.append(memory(node))
        size = robot.statuses[-1].cache_bytes
    finally:
        player.send_signal(signal.SIGINT)
        player.wait(20)
    published = max(json.loads(line).get("published", 0) for line in told.read_text().splitlines())
    status = robot.settled(published, waiting=1)
    assert (status.frames_received, status.frames_dropped) == (published, 0)
    assert (status.time_jumps_back, status.time_gaps) == ((published - 1) // count, 0)
    assert status.time_jumps_back >= ROUNDS - 1 and robot.unaccounted(status) == 0
    assert status.cache_tokens <= 256 and status.cache_bytes == size
    # At rest: while it loops, images that wait are held as well. The rounds' pictures are 24 MiB and more.
    assert memory(node) - held[0] < 16, f"MiB after each fifth of the rounds {held}, in the end {memory(node):.1f}"
    reply = robot.result(robot.ask(QUESTION))
    assert (reply.success, reply.answer) == (True, RIGHT)
    assert reply.first_stamp.sec >= START and reply.last_stamp.sec < START + count / 2
    assert "Traceback" not in node.log
