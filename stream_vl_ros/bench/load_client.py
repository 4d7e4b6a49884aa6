"""A process of clients that ask all the time: `python -m stream_vl_ros.bench.load_client FIRST COUNT STREAM...`.

Prints `{"event": "ready"}` once every client sees the node. Reads `{"seconds": S}` from stdin, asks for so long, waits
for what is still open, and prints `{"event": "round", ...}`, what came of it; again for the next line.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import rclpy
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future

from stream_vl_ros.action import AskStream
from stream_vl_ros.srv import Ask

NODE = "/stream_vl"
QUESTIONS = ("What is visible now?", "How many objects are there?", "What happened so far?")

CALL_TIMEOUT = 30.0
"""Seconds after which a client takes its request for lost."""

PATIENCE = {"patient": 20.0, "hurried": 0.4, "fickle": 20.0}
"""Seconds that each kind of client gives the node; a fickle one changes its mind after `WHIM`."""

WHIM = 0.3

GRACE = 5.0
"""Seconds after a request's own timeout by which it must have heard of its end."""

# Of all that the clients of a service are sent, each sees what its history holds.
DEEP = QoSProfile(depth=1000)


@dataclass(slots=True)
class Told:
    """What clients were told.

    Attributes:
        ends: how their requests ended: answered, busy, timed_out, cancelled, lost (nothing came), or other.
        seconds: from each request to its response.
        overdue: by how many of them the latest response came after its request's own timeout; below 0 if none did.
        other: some errors that are none of these.
        heeded: requests that came when a busy node had said that they should.
        heeded_busy: how many of them found it busy again.
        unknown: busy responses that could not say when.
    """

    ends: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    overdue: float = -math.inf
    other: list[str] = field(default_factory=list)
    heeded: int = 0
    heeded_busy: int = 0
    unknown: int = 0


class Client:
    """Asks, waits for the response, asks again."""

    def __init__(self, number: int, streams: list[str], told: Told) -> None:
        self.node: Node = rclpy.create_node(f"load_client_{number}")
        self.kind = {6: "hurried", 7: "fickle"}.get(number % 8, "patient")
        self.told = told
        self._stream = streams[(number + number // 8) % len(streams)]
        self._number = number
        self._due, self._sent_at, self._asked = 0.0, 0.0, 0
        self._open = self._heeds = self._gave_up = False
        self._goal: Any = None
        if self.kind == "fickle":
            self._action = ActionClient(
                self.node, AskStream, f"{NODE}/ask_stream", goal_service_qos_profile=DEEP,
                result_service_qos_profile=DEEP, cancel_service_qos_profile=DEEP,
            )  # fmt: skip
        else:
            self._service = self.node.create_client(Ask, f"{NODE}/ask", qos_profile=DEEP)

    @property
    def ready(self) -> bool:
        return bool(self._action.server_is_ready() if self.kind == "fickle" else self._service.service_is_ready())

    @property
    def open(self) -> bool:
        """Whether a response is still to come."""
        return self._open

    def turn(self, now: float, asking: bool) -> None:
        """Do what is due."""
        if not self._open:
            if asking and now >= self._due:
                self._ask(now)
        elif now - self._sent_at > CALL_TIMEOUT:
            self._ended("lost", 0.0)
        elif self._goal is not None and not self._gave_up and now - self._sent_at > WHIM:
            self._gave_up = True
            self._goal.cancel_goal_async()

    def _ask(self, now: float) -> None:
        self._open, self._sent_at, self._gave_up, self._goal = True, now, False, None
        self._asked += 1
        values = {
            "question": QUESTIONS[(self._number + self._asked) % len(QUESTIONS)],
            "stream": self._stream,
            "timeout": PATIENCE[self.kind],
            "max_new_tokens": 24,
        }
        asked = self._asked
        if self.kind == "fickle":
            sent = self._action.send_goal_async(AskStream.Goal(**values))
            sent.add_done_callback(lambda future: self._accepted(asked, future))
        else:
            self._service.call_async(Ask.Request(**values)).add_done_callback(
                lambda future: self._heard(asked, future.result())
            )

    def _accepted(self, asked: int, future: Future) -> None:
        goal = future.result()
        if asked != self._asked:
            return
        self._goal = goal
        goal.get_result_async().add_done_callback(lambda future: self._result(asked, future.result()))

    def _result(self, asked: int, response: Any) -> None:
        if response.status == GoalStatus.STATUS_UNKNOWN and asked == self._asked and self._open:
            self._ended("other", 0.0, "the node does not know the goal")
            return
        self._heard(asked, response.result)

    def _heard(self, asked: int, response: Any) -> None:
        if asked != self._asked or not self._open:
            return  # it was taken for lost
        error = response.error
        if response.success:
            self._ended("answered", 0.0)
        elif response.retry_after:
            self.told.unknown += response.retry_after < 0
            self._ended("busy", response.retry_after if response.retry_after > 0 else 1.0)
        elif error.startswith("timed out"):
            self._ended("timed_out", 0.2)
        elif error.startswith("cancelled"):
            self._ended("cancelled", 0.2)
        else:
            self._ended("other", 1.0, error)

    def _ended(self, how: str, rest: float, error: str = "") -> None:
        now = time.monotonic()
        self._open = False
        self.told.ends[how] += 1
        self.told.seconds.append(now - self._sent_at)
        self.told.overdue = max(self.told.overdue, now - self._sent_at - PATIENCE[self.kind])
        self.told.heeded += self._heeds
        self.told.heeded_busy += self._heeds and how == "busy"
        self._heeds = how == "busy"
        self._due = now + rest
        if error and len(self.told.other) < 5:
            self.told.other.append(error)


def main() -> None:
    first, count, *streams = sys.argv[1:]
    rclpy.init(args=[])
    told = Told()
    clients = [Client(i, streams, told) for i in range(int(first), int(first) + int(count))]
    executor = SingleThreadedExecutor()
    for client in clients:
        executor.add_node(client.node)
    while not all(client.ready for client in clients):
        executor.spin_once(timeout_sec=0.1)
    print(json.dumps({"event": "ready"}), flush=True)
    for line in sys.stdin:
        told = Told()
        for client in clients:
            client.told = told
        end = time.monotonic() + json.loads(line)["seconds"]
        while (now := time.monotonic()) < end or any(client.open for client in clients):
            for client in clients:
                client.turn(now, now < end)
            executor.spin_once(timeout_sec=0.01)
        counts = {item.name: getattr(told, item.name) for item in fields(told)}
        print(json.dumps({"event": "round", **counts}), flush=True)


if __name__ == "__main__":
    main()
