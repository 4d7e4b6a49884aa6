"""The account of a load notices what does not hold."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
from stream_vl_ros.bench.load_account import Account

STATUS: dict[str, Any] = {
    "questions_asked": 10, "questions_answered": 4, "questions_cancelled": 1, "questions_refused": 3,
    "questions_timed_out": 2, "questions_active": 0, "refusals": {"busy": 3},
    "frames_received": 20, "frames_ingested": 9, "frames_skipped": 9, "frames_dropped": 1, "frames_waiting": 1,
    "drops": {"queue_full": 1},
}  # fmt: skip
ROUND: dict[str, Any] = {
    "ends": {"answered": 4, "cancelled": 1, "busy": 3, "timed_out": 2}, "seconds": [1.0] * 10, "other": [],
    "heeded": 2, "heeded_busy": 1, "overdue": -2.0, "unknown": 0,
}  # fmt: skip


def account(status: dict[str, Any], told: dict[str, Any], **fields: Any) -> Account:
    it = Account(30.0, 5.0, 16.0, statuses={"front": status}, published={"front": 20}, **fields)
    it.take([told])
    return it


def test_what_holds_is_not_complained_about():
    assert account(STATUS, ROUND).wrong() == []


@pytest.mark.parametrize("count", [name for name, value in STATUS.items() if isinstance(value, int)])
def test_every_count_matters(count):
    status = STATUS | {count: STATUS[count] + 1}
    assert account(status, ROUND).wrong()


@pytest.mark.parametrize("reasons", ["refusals", "drops"])
def test_every_reason_matters(reasons):
    assert account(STATUS | {reasons: {}}, ROUND).wrong()


@pytest.mark.parametrize("end", ["answered", "cancelled", "busy", "timed_out", "lost", "other"])
def test_every_client_matters(end):
    told = deepcopy(ROUND)
    told["ends"][end] = told["ends"].get(end, 0) + 1
    assert account(STATUS, told).wrong()


def test_memory_matters():
    assert "16 at the most" in account(STATUS, ROUND, process_mib=(100.0, 120.0)).wrong()[0]
    assert "bytes before" in account(STATUS, ROUND, cache_bytes=(100, 120)).wrong()[0]
    assert account(STATUS, ROUND, process_mib=(100.0, 110.0)).wrong() == []


def test_no_load_is_none():
    assert "this was no load" in Account(30.0, 5.0, 16.0).wrong()[0]


def test_waiting_matters():
    assert account(STATUS, ROUND | {"overdue": 4.9}).wrong() == []
    assert "after its request's own timeout" in account(STATUS, ROUND | {"overdue": 5.1}).wrong()[0]
    assert "when to come back" in account(STATUS, ROUND | {"unknown": 1}).wrong()[0]
