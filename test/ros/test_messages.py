"""What leaves as a message arrives as it was."""

from __future__ import annotations

import pytest
from rclpy.serialization import deserialize_message, serialize_message
from stream_vl_ros.msg import Answer
from stream_vl_ros.srv import Ask

from stream_vl_ros.errors import RequestError
from stream_vl_ros.ros.messages import answer_message, reason, refuse, to_ns, to_time, wire


@pytest.mark.parametrize("text", ["", "a red circle", "rote Kugel: äöü \U0001f600", "a\x00b", "half \ud83d a pair"])
def test_every_text_survives_dds(text):
    sent = wire(text)
    assert deserialize_message(serialize_message(Answer(answer=sent)), Answer).answer == sent
    assert len(sent) == len(text)
    assert sent == text or "\x00" in text or "\ud83d" in text


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_stamps_survive(ns):
    assert to_ns(to_time(ns)) == ns


def test_a_reason_is_cut_in_its_middle():
    assert reason(RequestError("too late")) == "too late"
    text = reason(RequestError("begins" + "x" * 1_000_000 + "ends"))
    assert text.startswith("begins") and text.endswith("ends") and "998010 characters left out" in text
    assert len(text) < 2100


def test_what_was_refused_for_its_size_is_not_sent_on():
    request, response = Ask.Request(question="x" * 1_000_000, choices=["y"] * 1000), Ask.Response()
    refuse(response, RequestError("too long"))
    message = answer_message(1, "", request, response, "", to_time(0))
    assert len(message.question) < 60_000 and len(message.choices) == 64
