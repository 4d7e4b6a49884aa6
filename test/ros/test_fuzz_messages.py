"""Hundreds of mutated messages over real DDS, and bytes that are no message; thousands more are sent in test/fuzz."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from stream_vl_ros.demo.scene import demo_clip

sys.path.append(str(Path(__file__).parent.parent / "fuzz"))
from mutated_images import SECOND, START, good, mutant

COUNT = 300
# MiB that the node may take more for them: those of test/fuzz may take as many.
MOST = 48


@pytest.fixture
def camera(robot):
    """`camera(Image, topic)` publishes messages of that type, or bytes in their place."""
    made = []

    def publisher(kind: type, topic: str):
        it = robot.node.create_publisher(kind, topic, QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE))
        made.append(it)
        robot.spin_until(lambda: it.get_subscription_count() > 0, 15, "the node is matched")
        return it

    yield publisher
    for it in made:
        robot.node.destroy_publisher(it)


def right(robot, send, sent: int) -> None:
    """A good recording, and a question about it that only one answer is right for."""
    assert robot.result(robot.reset_client.call_async(robot.reset_client.srv_type.Request())).success
    pictures, seconds = demo_clip(10.0)
    for picture, second in zip(pictures, seconds, strict=True):
        send(good(picture, START + int(second * SECOND)))
    robot.settled(sent + len(pictures), waiting=1)
    response = robot.result(robot.ask("What is visible now?"), 60)
    assert response.success and response.answer == "a red circle, a blue square", response


@pytest.mark.parametrize("kind", [Image, CompressedImage])
def test_mutated_messages(start_node, robot, camera, kind):
    topic = "/test/fuzz" if kind is Image else "/test/fuzz/compressed"
    node = start_node(ready=False, model="embedded", image_topic=topic, eviction="window", budget_tokens=600)
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "active", 60, "the node is ready")
    publisher = camera(kind, topic)
    # Somebody who listens has each of them drawn as well.
    drawn: list[Image] = []
    listener = robot.node.create_subscription(Image, "/stream_vl/debug_image", drawn.append, 10)
    sent = number = 0
    before = node.resident
    while sent < COUNT:
        item = mutant(2, number, START + number * SECOND // 2)
        number += 1
        if isinstance(item.message, kind):
            publisher.publish(item.message)
            sent += 1
    status = robot.settled(sent, waiting=4)
    assert status.frames_received == sent and robot.unaccounted(status) == 0
    assert status.frames_dropped == sum(status.drop_counts) > COUNT // 5
    assert all(status.drop_reasons) and len(status.drop_reasons) >= (6 if kind is Image else 3), status.drop_reasons
    robot.spin_until(lambda: drawn, 10, "a good one was drawn")
    robot.node.destroy_subscription(listener)
    assert node.resident - before < MOST
    assert node.process.poll() is None and "Traceback" not in node.log


def test_text_that_is_no_utf_8(start_node, robot, camera):
    """As a publisher in another language can send it, in what becomes a reason and in what is sent on."""
    node = start_node(model="embedded", target_fps=2.0)
    publisher = camera(Image, robot.topic)
    message = good(demo_clip(0.25)[0][0], START)
    message.encoding, message.header.frame_id = "EEEE", "FFFF"
    whole = serialize_message(message)
    bad = (b"\xff\xff\xff\xff", b"\xed\xa0\x80!", b"\xc0\x80\xf8\x88", b"\x80\x80\x80\x80")
    for text in bad:
        publisher.publish(whole.replace(b"EEEE", text).replace(b"FFFF", text))
    status = robot.settled(len(bad))
    assert (status.drop_reasons, list(status.drop_counts)) == (["unknown_encoding"], [len(bad)])
    assert "\ufffd" in status.message and "\ufffd" in status.header.frame_id
    right(robot, publisher.publish, len(bad))
    assert node.process.poll() is None and "Traceback" not in node.log


def test_bytes_that_are_no_message(start_node, robot, camera):
    """The middleware makes no message of them and says so: they never reach the node, and the next good one does."""
    node = start_node(model="embedded", target_fps=2.0)
    publisher = camera(Image, robot.topic)
    random_ = random.Random(3)
    whole = serialize_message(good(demo_clip(0.25)[0][0], START))
    for _ in range(40):
        data = bytearray(whole[: random_.randint(4, 200)])
        for _ in range(random_.randint(0, 4)):
            data[random_.randrange(4, len(data))] = random_.randrange(256)
        publisher.publish(bytes(data))
    # A question takes the images that wait, in its own way.
    response = robot.result(robot.ask("What is visible now?"), 30)
    assert "no video yet" in response.error
    assert "remaining buffer" in node.log, "the middleware's own words"
    right(robot, publisher.publish, 0)
    assert node.process.poll() is None and "Traceback" not in node.log
