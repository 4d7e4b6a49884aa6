"""Responses some milliseconds apart, on a real executor."""

from __future__ import annotations

import itertools
import time

import pytest
from rclpy.callback_groups import ReentrantCallbackGroup

from stream_vl_ros.ros.pacing import BURST, GAP, Pace

pytestmark = pytest.mark.alone


def test_a_few_go_at_once_and_more_of_them_apart_and_in_order(robot):
    pace = Pace(robot.node, ReentrantCallbackGroup())
    asked: list[int] = []
    went: list[tuple[int, float]] = []

    async def respond(number: int) -> None:
        asked.append(number)
        await pace.turn()
        went.append((number, time.monotonic()))

    for count in (BURST, 3 * BURST):  # the second time after it had nothing to do
        asked.clear()
        went.clear()
        began = time.monotonic()
        for number in range(count):
            robot.executor.create_task(respond, number)
        robot.spin_until(lambda count=count: len(went) == count, 10, "all have gone")
        assert [number for number, _ in went] == asked
        times = [at for _, at in went]
        held = sum(b - a > GAP / 10 for a, b in itertools.pairwise(times))
        assert times[-1] - began >= (count - BURST) * GAP
        assert held >= (count - BURST) // 2, "they go one by one, not together at the end"
        robot.spin_until(lambda: time.monotonic() > times[-1] + 2 * BURST * GAP, 10, "it is quiet again")  # noqa: B023
