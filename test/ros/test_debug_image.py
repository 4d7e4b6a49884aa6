"""~/debug_image: the last answer in the camera's picture, for whoever looks."""

from __future__ import annotations

import numpy as np
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from stream_vl_ros.ros.debug_image import draw

SECOND = 1_000_000_000
START = 1_700_000_000


def test_text_is_drawn_at_the_lower_edge():
    grey = np.full((240, 320, 3), 128, np.uint8)
    drawn = draw(grey, "What is visible now? a red circle")
    assert drawn.shape == grey.shape and drawn.dtype == np.uint8
    changed = (drawn != grey).any(axis=(1, 2))
    assert changed[-1] and not changed[:120].any()
    assert (drawn[-40:] > 240).any() and (drawn[-40:] < 60).any()
    assert np.array_equal(draw(grey, "  "), grey)
    assert (grey == 128).all()


def test_long_texts_and_small_pictures():
    for size in ((8, 8, 3), (28, 300, 3), (720, 1280, 3)):
        picture = np.zeros(size, np.uint8)
        drawn = draw(picture, "a very long answer " * 100 + "\U0001f600 ünï")
        assert drawn.shape == size
        assert (drawn > 100).any()


def test_over_dds(start_node, robot, pictures):
    start_node()
    larger = pictures.repeat(4, axis=1).repeat(4, axis=2)
    for i in range(8):
        robot.publish(larger[i], START * SECOND + i * SECOND // 2)
    robot.settled(8)
    answer = robot.result(robot.ask("What is it?", max_new_tokens=8))
    assert answer.success
    seen: list[Image] = []
    subscription = robot.node.create_subscription(Image, "/stream_vl/debug_image", seen.append, QoSProfile(depth=5))
    try:
        robot.spin_until(lambda: robot.node.count_publishers("/stream_vl/debug_image"), 10, "it is offered")
        robot.spin_for(1.0)
        robot.publish(larger[8], (START + 4) * SECOND)
        robot.spin_until(lambda: seen, 10, "somebody looks now")
        drawn = seen[-1]
        assert (drawn.height, drawn.width, drawn.encoding, drawn.step) == (240, 320, "rgb8", 960)
        assert (drawn.header.stamp.sec, drawn.header.frame_id) == (START + 4, "test_camera")
        shown = np.frombuffer(drawn.data, np.uint8).reshape(240, 320, 3)
        assert np.array_equal(shown[:100], larger[8][:100])
        assert not np.array_equal(shown[-20:], larger[8][-20:])
        robot.publish(larger[9], (START + 5) * SECOND, encoding="nonsense")  # told of in ~/status
        robot.publish(larger[10], (START + 6) * SECOND)
        robot.spin_until(lambda: seen[-1].header.stamp.sec == START + 6, 10, "it goes on")
    finally:
        robot.node.destroy_subscription(subscription)
    assert robot.settled(11, waiting=1).frames_received == 11
