"""A camera whose clock jumps, and a recording that loops, as other processes see what the node makes of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from stream_vl_ros.bag.writer import ImageBagWriter

SECOND = 1_000_000_000
START = 1_700_000_000
POLICIES = ["reset", "continue", "mark"]


def publish(robot, pictures: np.ndarray, start: float) -> None:
    """At 4 frames per second."""
    for i, picture in enumerate(pictures):
        robot.publish(picture, START * SECOND + round((start + i / 4) * SECOND))


def told(log: str) -> list[str]:
    return [line for line in log.splitlines() if "on_time_jump" in line]


def seconds(stamp) -> float:
    return stamp.sec - START + stamp.nanosec / SECOND


@pytest.mark.parametrize(
    ("policy", "ingested", "drops", "seen"),
    # Spans of 7, 7 and 5 frames, chunks of 4; what waits at the end is flushed in pairs.
    [("reset", 12, {"time_jump": 6}, 5), ("continue", 18, {}, 19), ("mark", 18, {}, 19)],
)
def test_a_camera_whose_clock_jumps(start_node, robot, pictures, policy, ingested, drops, seen):
    node = start_node(on_time_jump=policy, max_gap=30.0, jump_back=2.0, flush_after=2.0)
    for start, end, origin in ((0, 7, 1000.0), (7, 14, 3.0), (14, 19, 40.0)):
        publish(robot, pictures[start:end], origin)
    robot.publish(pictures[19], START * SECOND + 40 * SECOND + SECOND // 2)  # merely out of order
    status = robot.settled(20, waiting=1)
    assert (status.time_jumps_back, status.time_gaps) == (1, 1)
    assert dict(zip(status.drop_reasons, status.drop_counts, strict=True)) == {"stamp_backwards": 1} | drops
    assert (status.frames_ingested, status.frames_waiting, robot.unaccounted(status)) == (ingested, 1, 0)
    lines = told(node.log)
    assert len(lines) == 2
    assert "jumped back by 998.500 s" in lines[0]
    assert "jump_back 2 s" in lines[0]
    assert "jumped ahead by 35.500 s" in lines[1]
    assert "max_gap 30 s" in lines[1]
    reply = robot.result(robot.ask("What is it?", max_new_tokens=5))
    assert reply.success, reply.error
    assert (reply.frames_seen, seconds(reply.last_stamp)) == (seen, 41.0)
    assert seconds(reply.first_stamp) == (40.0 if policy == "reset" else 1000.0)
    assert robot.result(robot.reset_client.call_async(Trigger.Request())).success
    publish(robot, pictures[:4], 0.0)
    status = robot.settled(24)
    assert (status.time_jumps_back, status.time_gaps, robot.unaccounted(status)) == (1, 1, 0)


def test_simulated_time_that_jumps_back(start_node, robot, pictures):
    """With use_sim_time statuses are stamped by /clock, also after a recording's clock began again."""
    start_node(use_sim_time=True)
    publisher = robot.node.create_publisher(Clock, "/clock", 10)
    for begin in (500, 100):
        for tick in range(20):
            message = Clock()
            message.clock.sec = begin + tick // 4
            message.clock.nanosec = tick % 4 * SECOND // 4
            publisher.publish(message)
            robot.publish(pictures[tick], message.clock.sec * SECOND + message.clock.nanosec)
            robot.spin_for(0.05)
        robot.statuses.clear()
        robot.spin_until(lambda: robot.statuses, 10, "a status")
        assert robot.statuses[-1].header.stamp.sec in range(begin, begin + 6)
    status = robot.settled(40)
    assert (status.time_jumps_back, status.frames_ingested, robot.unaccounted(status)) == (1, 40, 0)
    robot.node.destroy_publisher(publisher)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_recording_that_loops(start_node, robot, ros_env, pictures, tmp_path: Path, policy):
    """Repeated stamps jump back at the end of every round: all rounds are watched, none is lost."""
    bag, count = tmp_path / "bag", 17
    with ImageBagWriter(bag, storage="mcap") as writer:
        for i in range(count):
            writer.write(pictures[i], START * SECOND + i * SECOND // 10)
    node = start_node(on_time_jump=policy)
    command = [
        sys.executable, "-m", "stream_vl_ros.bag.replay", str(bag), "--to", robot.topic, "--loop", "--loop-stamps",
        "repeat", "--wait-for-subscribers", "1", "--progress-json",
    ]  # fmt: skip
    player = subprocess.Popen(command, env=ros_env, stdout=subprocess.PIPE, text=True)
    try:
        robot.spin_until(
            lambda: robot.statuses and robot.statuses[-1].frames_received >= 4 * count + 5, 60, "the fifth round"
        )
        reply = robot.result(robot.ask("What is it?", max_new_tokens=5))
        assert reply.success, reply.error
    finally:
        player.send_signal(signal.SIGINT)
        said, _ = player.communicate(timeout=20)
    published = max(json.loads(line).get("published", 0) for line in said.splitlines())
    status = robot.settled(published, waiting=1)
    jumps = (published - 1) // count
    assert jumps >= 4
    assert (status.frames_received, status.time_jumps_back, status.time_gaps) == (published, jumps, 0)
    assert robot.unaccounted(status) == 0
    drops = dict(zip(status.drop_reasons, status.drop_counts, strict=True))
    if policy == "reset":
        # Of 17 frames 16 fill chunks of 4; the last one waits, and is forgotten.
        assert drops == {"time_jump": jumps}
        assert reply.frames_seen <= count
    else:
        assert drops == {}
        assert reply.frames_seen >= 4 * count + 5
        assert status.frames_ingested + status.frames_waiting == published
    assert len(told(node.log)) == jumps
