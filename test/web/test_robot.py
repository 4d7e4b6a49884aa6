"""The client of the node, with another node in its place."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("stream_vl_ros.srv", reason="the package was not built: run `make build`")

import rclpy
from rclpy.action import ActionServer
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future
from stream_vl_ros.action import AskStream
from stream_vl_ros.msg import Answer

from stream_vl_ros.web.robot import Robot

sys.path.append(str(Path(__file__).parent))
from web_rig import until

NAME = "/robot_test"


class Told:
    """Writes down what is told."""

    def __init__(self) -> None:
        self.of: dict[str, list[tuple[Any, ...]]] = {}

    def __getattr__(self, what: str) -> Callable[..., None]:
        return lambda *arguments, **more: self.of.setdefault(what, []).append(arguments)

    def numbers(self, what: str) -> list[int]:
        return [arguments[0] for arguments in self.of.get(what, [])]


class Server:
    """Takes every question and answers none."""

    def __init__(self, context: rclpy.Context) -> None:
        self._node = rclpy.create_node(NAME[1:], context=context)
        self._node.create_publisher(Answer, "~/answer", 10)
        self._never: Future[AskStream.Result] = Future()
        self._action = ActionServer(self._node, AskStream, "~/ask_stream", execute_callback=self._on_goal)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    async def _on_goal(self, goal: Any) -> AskStream.Result:
        return await self._never

    def silence(self) -> None:
        """Still in the graph, as a node that was killed is for a while."""
        self._executor.shutdown(1.0)
        self._thread.join(5.0)

    def leave(self) -> None:
        self._action.destroy()
        self._node.destroy_node()


@pytest.fixture
def context(web_domain_id: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[rclpy.Context]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    it = rclpy.Context()
    rclpy.init(context=it, domain_id=web_domain_id)
    yield it
    rclpy.shutdown(context=it)


def test_questions_that_a_gone_node_took_are_given_up(context: rclpy.Context):
    told = Told()
    robot = Robot(rclpy.create_node("asker", context=context), NAME, lambda call: call(), lambda *image: None)
    first = Server(context)
    robot.start(told)
    until(lambda: robot._asking._action.server_is_ready() and robot._asking._server, "the node is there")
    robot.ask(1, {"question": "What?"})
    until(lambda: told.numbers("accepted") == [1], "the question is taken")
    first.silence()
    second = Server(context)
    until(lambda: told.numbers("failed") == [1], "it is given up", 10)
    assert "started anew" in told.of["failed"][0][1] and not robot._asking._goals
    first.leave()
    robot.ask(2, {"question": "What?"})
    until(lambda: told.numbers("accepted") == [1, 2], "the other node takes one")
    second.silence()
    second.leave()
    until(lambda: told.numbers("failed") == [1, 2], "it is given up as well", 10)
    assert "went away" in told.of["failed"][1][1] and not robot._asking._goals
    robot.close()


def test_a_question_waits_a_moment_for_a_node_that_is_not_found_yet(context: rclpy.Context):
    told = Told()
    robot = Robot(rclpy.create_node("early", context=context), NAME, lambda call: call(), lambda *image: None)
    robot.start(told)
    for number in (1, 2):
        robot.ask(number, {"question": "What?"})
    robot.stop(2)
    until(lambda: told.of.get("failed") == [(2, "Stopped before the node had taken it.")], "it is not sent")
    server = Server(context)
    until(lambda: told.numbers("accepted") == [1], "it is sent")
    server.silence()
    server.leave()
    until(
        lambda: told.numbers("failed") == [2, 1] and not robot._asking._action.server_is_ready(), "the node is gone", 10
    )
    robot.ask(3, {"question": "What?"})
    until(lambda: told.numbers("failed") == [2, 1, 3], "there is nobody to take it", 15)
    assert "takes no questions now" in told.of["failed"][-1][1] and not robot._asking._unsent
    robot.close()
