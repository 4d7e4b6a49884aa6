"""Questions of the page, from the moment that they are asked to what comes of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.node import Node

from stream_vl_ros.action import AskStream
from stream_vl_ros.ros.qos import SERVICE_QOS
from stream_vl_ros.web.plain import plain

# Seconds in which a node that has just come must be found ready for a question.
_FOUND = 4.0


class Tell(Protocol):
    """Tells of a question's `accepted`, `written`, `result` or `failed`, with its number and more."""

    def __call__(self, what: str, *arguments: Any, **more: Any) -> None: ...


class Asking:
    """A client of the node's `~/ask_stream`. Used on the ROS thread."""

    def __init__(self, node: Node, name: str, tell: Tell) -> None:
        """For the node of that full name."""
        self._node, self._name, self._tell = node, name, tell
        # Handles of the goals under way, by the caller's number; none before a goal is accepted.
        self._goals: dict[int, Any] = {}
        self._server: frozenset[bytes] = frozenset()  # of the node's process, see _follow_server
        self._stopped: set[int] = set()
        self._unsent: dict[int, tuple[float, Mapping[str, Any]]] = {}  # until when, and what is asked
        self._action = ActionClient(
            node,
            AskStream,
            f"{name}/ask_stream",
            goal_service_qos_profile=SERVICE_QOS,
            result_service_qos_profile=SERVICE_QOS,
            cancel_service_qos_profile=SERVICE_QOS,
            feedback_sub_qos_profile=SERVICE_QOS,
        )

    def look(self) -> None:
        """Give up what nobody will answer any longer, and send what waits; to be called every second."""
        self._follow_server()
        self._send_late()

    def send(self, number: int, fields: Mapping[str, Any]) -> None:
        """Ask; what comes of it is told under `number`."""
        self._follow_server()  # what is asked now is not to be given up with what was asked before
        if not self._action.server_is_ready():
            self._unsent[number] = (time.monotonic() + _FOUND, fields)
            return
        self._goals[number] = None
        sent = self._action.send_goal_async(
            AskStream.Goal(**fields),
            feedback_callback=lambda message: self._tell("written", number, message.feedback.text),
        )
        sent.add_done_callback(lambda future: self._on_accepted(number, future))

    def stop(self, number: int) -> None:
        """End an answer at its next token."""
        goal = self._goals.get(number)
        if self._unsent.pop(number, None) is not None:
            self._tell("failed", number, "Stopped before the node had taken it.")
        elif goal is not None:
            goal.cancel_goal_async()
        elif len(self._stopped) < 1000:
            self._stopped.add(number)  # as soon as it is accepted

    def _follow_server(self) -> None:
        """Give up the goals under way if who took them is gone: its answers will never come.

        A node that is killed stays in the graph for a while, and one that takes its place may offer the action before
        anything else shows it. What is told by the node's own publisher of answers lives as long as the node does.
        """
        infos = self._node.get_publishers_info_by_topic(f"{self._name}/answer")
        now = frozenset(bytes(info.endpoint_gid) for info in infos)
        if self._server and now - self._server:
            self._forsake("The node was started anew before it had answered; ask again.")
        elif not self._action.server_is_ready():
            self._forsake("The node went away before it had answered; ask again when it is back.")
        self._server = now or self._server

    def _forsake(self, reason: str) -> None:
        numbers = list(self._goals)
        self._goals.clear()
        self._stopped.clear()
        for number in numbers:
            self._tell("failed", number, reason)

    def _send_late(self) -> None:
        """Send what was asked before the node could be reached."""
        for number, (end, fields) in list(self._unsent.items()):
            if self._action.server_is_ready():
                del self._unsent[number]
                self.send(number, fields)
            elif time.monotonic() > end:
                del self._unsent[number]
                self._tell("failed", number, "The node takes no questions now; ask again in a moment.")

    def _on_accepted(self, number: int, future: Any) -> None:
        if future.exception() is not None or future.result() is None or not future.result().accepted:
            self._goals.pop(number, None)
            self._tell("failed", number, f"The node refused the question: {future.exception() or 'no reason given'}")
            return
        goal = future.result()
        self._goals[number] = goal
        self._tell("accepted", number)
        goal.get_result_async().add_done_callback(lambda done: self._on_result(number, done))
        if number in self._stopped:
            goal.cancel_goal_async()

    def _on_result(self, number: int, future: Any) -> None:
        self._goals.pop(number, None)
        self._stopped.discard(number)
        if future.exception() is not None:
            self._tell("failed", number, f"The answer was lost: {future.exception()}")
            return
        ended = future.result()
        self._tell("result", number, plain(ended.result), canceled=ended.status == GoalStatus.STATUS_CANCELED)
