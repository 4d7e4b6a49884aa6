"""The demo's verdict: what makes a run a failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stream_vl_ros.demo.questions import DEMO_BAG, Question, spread_over
from stream_vl_ros.demo.records import Asked, Status, problems

GOOD = Status(state="active", received=96, ingested=47, skipped=46, dropped=2, waiting=1, drops=(("queue_full", 2),))


def _asked(**answer: Any) -> Asked:
    fields = {"success": True, "answer": "A red circle.", "error": "", **answer}
    return Asked(1, Question(1.0, "What is visible now?", expected="a red circle"), 1.0, 0.0, fields)


def test_all_well() -> None:
    assert problems([_asked()], 96, GOOD) == []


@pytest.mark.parametrize(
    ("change", "published", "reason"),
    [
        ({}, 97, "97 frames were published but the node received 96: 1 were lost"),
        ({}, 95, "1 too many"),
        ({"skipped": 45}, 96, "do not add up"),
        ({"ingested": 45, "waiting": 3}, 96, "3 frames are still waiting"),
    ],
)
def test_frames_unaccounted_for(change: dict[str, int], published: int, reason: str) -> None:
    found = problems([_asked()], published, replace(GOOD, **change))
    assert len(found) == 1
    assert reason in found[0]


def test_answers_missing_or_failed() -> None:
    missing = _asked()
    missing.answer = None
    found = problems([missing, _asked(success=False, error="too long")], 96, GOOD)
    assert "No answer came" in found[0]
    assert "failed: too long" in found[1]


def test_right_and_wrong() -> None:
    assert _asked().right is True
    assert _asked(answer="a blue square").right is False


def test_questions_lie_within_the_stream_and_in_order() -> None:
    for questions, seconds in ((spread_over(10.0), 10.0), (spread_over(3.0, ["a", "b"]), 3.0), (DEMO_BAG, 23.75)):
        times = [q.at for q in questions]
        assert times == sorted(times)
        assert 0 < times[0] <= times[-1] < seconds
