"""Cameras of every kind: compressed ones, every encoding, publishers of each QoS, restarts with another resolution."""

from __future__ import annotations

import io

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from PIL import Image as Picture
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from stream_vl_ros.ros.encodings import ENCODINGS

SECOND = 1_000_000_000
START = 1_700_000_000


def stamp(i: int) -> Time:
    return Time(sec=START + i // 2, nanosec=i % 2 * SECOND // 2)


def compressed(pixels: np.ndarray, i: int, kind: str) -> CompressedImage:
    data = io.BytesIO()
    Picture.fromarray(pixels).save(data, kind)
    message = CompressedImage(format=kind, data=data.getvalue())
    message.header.stamp = stamp(i)
    message.header.frame_id = "compressed_camera"
    return message


def raw(encoding: str, i: int) -> Image:
    """A message of noise in an encoding, 64x48."""
    probe = Image(height=48, width=64, encoding=encoding)
    probe.step = 64 * 16  # room for anything; the decoder takes what it needs of each row
    rows = 48 * 3  # and for planes behind the first
    probe.data = np.random.default_rng(i).integers(0, 200, probe.step * rows, dtype=np.uint8).tobytes()
    probe.header.stamp = stamp(i)
    return probe


@pytest.mark.parametrize(("kind", "first"), [("jpeg", "camera"), ("png", "node")])
def test_compressed_images(start_node, robot, pictures, kind, first):
    """Found out by itself, whether the camera or the node is there first."""
    topic = "/test/other_camera"
    node = None
    if first == "node":
        node = start_node(ready=False, image_topic=topic)
        robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "active", 60, "the node is ready")
    camera = robot.node.create_publisher(
        CompressedImage, topic, QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
    )
    try:
        if node is None:
            start_node(ready=False, image_topic=topic)
        robot.spin_until(lambda: camera.get_subscription_count() > 0, 60, "the node subscribes to compressed images")
        for i in range(8):
            camera.publish(compressed(pictures[i], i, kind))
        status = robot.settled(8)
        assert status.frames_ingested == 8
        assert status.header.frame_id == "compressed_camera"
        broken = compressed(pictures[8], 8, kind)
        broken.data = broken.data[: len(broken.data) // 2]
        camera.publish(broken)
        camera.publish(compressed(pictures[9], 9, kind))
        status = robot.settled(10, waiting=1)
        assert dict(zip(status.drop_reasons, status.drop_counts, strict=True)) == {"bad_compressed": 1}
        assert robot.unaccounted(status) == 0
    finally:
        robot.node.destroy_publisher(camera)


def test_every_encoding_over_dds(start_node, robot):
    """Each is taken, whatever its rows are padded with."""
    start_node()
    for i, encoding in enumerate(ENCODINGS):
        robot.camera.publish(raw(encoding, i))
    status = robot.settled(len(ENCODINGS), waiting=1)
    assert status.frames_dropped == 0, status.message
    assert robot.unaccounted(status) == 0


@pytest.mark.parametrize(
    ("wanted", "offered"),
    [
        ("reliable", "best_effort"),
        ("reliable", "transient_local"),
        ("best_effort", "best_effort"),
        ("best_effort", "reliable"),
    ],
)
def test_publishers_of_each_qos(start_node, robot, pictures, wanted, offered):
    topic = "/test/qos_camera"
    camera = robot.node.create_publisher(
        Image,
        topic,
        QoSProfile(
            depth=100,
            reliability=ReliabilityPolicy.BEST_EFFORT if offered == "best_effort" else ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if offered == "transient_local" else DurabilityPolicy.VOLATILE,
        ),
    )
    try:
        node = start_node(ready=False, image_topic=topic, qos_reliability=wanted)
        robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "active", 60, "the node is ready")
        robot.spin_until(lambda: camera.get_subscription_count() > 0, 10, "it is matched")
        robot.spin_for(0.5)
        for i in range(8):
            message = Image(height=60, width=80, encoding="rgb8", step=240, data=pictures[i].tobytes())
            message.header.stamp = stamp(i)
            camera.publish(message)
            robot.spin_for(0.05)
        status = robot.settled(8)
        assert status.frames_ingested == 8
        changed = "does not offer the QoS that was asked for" in node.log
        assert changed == (wanted == "reliable" and offered == "best_effort")
    finally:
        robot.node.destroy_publisher(camera)


def test_the_standard_qos_overrides(start_node, robot):
    start_node(ready=False, **{"qos_overrides./test/image_raw.subscription.reliability": "best_effort"})
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "active", 60, "the node is ready")
    robot.spin_until(lambda: robot.node.get_subscriptions_info_by_topic(robot.topic), 10, "it subscribes")
    (info,) = robot.node.get_subscriptions_info_by_topic(robot.topic)
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_a_camera_that_restarts_with_another_resolution(start_node, robot, pictures):
    start_node()
    for i in range(4):
        robot.publish(pictures[i], START * SECOND + i * SECOND // 2)
    before = robot.settled(4)
    larger = np.repeat(np.repeat(pictures, 2, axis=1), 2, axis=2)
    for i in range(4, 8):
        robot.publish(larger[i], START * SECOND + i * SECOND // 2)
    after = robot.settled(8)
    assert (after.frames_ingested, after.frames_dropped) == (8, 0)
    # Scaled to what the stream began with: positions of one segment belong to one size.
    assert (after.frame_width, after.frame_height) == (before.frame_width, before.frame_height)
