"""Memories under names, over real DDS."""

from __future__ import annotations

import pytest
from stream_vl_ros.srv import Memory

SECOND = 1_000_000_000
START = 1_700_000_000


@pytest.fixture
def memory(robot):
    """`memory("snapshot", "kitchen")` calls one of the services."""
    clients = {n: robot.node.create_client(Memory, f"/stream_vl/{n}") for n in ("snapshot", "restore", "discard")}

    def call(service: str, name: str) -> Memory.Response:
        robot.reach(clients[service])
        return robot.result(clients[service].call_async(Memory.Request(name=name)))

    yield call
    for client in clients.values():
        robot.node.destroy_client(client)


def test_snapshot_restore_discard(start_node, robot, pictures, memory):
    start_node(ready=False)
    early = memory("snapshot", "kitchen")
    assert not early.success
    assert "not ready" in early.error or "no video yet" in early.error
    robot.wait_ready()

    def publish(begin: int, end: int) -> None:
        for i in range(begin, end):
            robot.publish(pictures[i], START * SECOND + i * SECOND // 2)

    publish(0, 8)
    robot.settled(8)
    first = robot.result(robot.ask("What is it?", max_new_tokens=12))
    kept = memory("snapshot", "kitchen")
    assert kept.success, kept.error
    assert (list(kept.names), list(kept.tokens)) == (["kitchen"], [first.cache_tokens])
    publish(8, 16)
    robot.settled(16)
    later = robot.result(robot.ask("What is it?", max_new_tokens=12))
    assert later.frames_seen == 16
    restored = memory("restore", "kitchen")
    assert restored.success, restored.error
    again = robot.result(robot.ask("What is it?", max_new_tokens=12))
    assert (again.answer, again.frames_seen, again.last_stamp) == (first.answer, 8, first.last_stamp)
    publish(8, 16)  # the same frames once more
    robot.settled(24)
    assert robot.result(robot.ask("What is it?", max_new_tokens=12)).answer == later.answer
    assert robot.unaccounted(robot.statuses[-1]) == 0

    assert memory("discard", "kitchen").success
    gone = memory("restore", "kitchen")
    assert not gone.success and "no memory of that name" in gone.error
