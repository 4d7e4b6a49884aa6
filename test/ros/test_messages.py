"""What leaves as a message arrives as it was."""

from __future__ import annotations

import pytest
from rclpy.serialization import deserialize_message, serialize_message
from stream_vl_ros.msg import Answer

from stream_vl_ros.ros.messages import to_ns, to_time, wire


@pytest.mark.parametrize("text", ["", "a red circle", "rote Kugel: äöü \U0001f600", "a\x00b", "half \ud83d a pair"])
def test_every_text_survives_dds(text):
    sent = wire(text)
    assert deserialize_message(serialize_message(Answer(answer=sent)), Answer).answer == sent
    assert len(sent) == len(text)
    assert sent == text or "\x00" in text or "\ud83d" in text


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_stamps_survive(ns):
    assert to_ns(to_time(ns)) == ns
