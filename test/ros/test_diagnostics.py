"""/diagnostics over real DDS: camera and engine, when all is well and when it is not."""

from __future__ import annotations

import importlib.util

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter_client import AsyncParameterClient

SECOND = 1_000_000_000
START = 1_700_000_000


@pytest.fixture
def seen(robot):
    """The latest status of each part, by its name."""
    latest: dict[str, DiagnosticStatus] = {}

    def take(message: DiagnosticArray) -> None:
        latest.update({s.name: s for s in message.status})

    subscription = robot.node.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
    yield latest
    robot.node.destroy_subscription(subscription)


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {v.key: v.value for v in status.values}


def test_camera_and_engine(start_node, robot, pictures, seen):
    start_node(image_timeout=2.0)

    def camera() -> DiagnosticStatus:
        return seen["stream_vl: camera"]

    def engine() -> DiagnosticStatus:
        return seen["stream_vl: engine"]

    robot.spin_until(lambda: len(seen) == 2 and engine().level == DiagnosticStatus.OK, 10, "the engine is ready")
    for i in range(8):
        robot.publish(pictures[i], START * SECOND + i * SECOND // 2)
    robot.settled(8)
    robot.spin_until(lambda: values(camera())["frames_ingested"] == "8", 10, "the frames are told of")
    assert (camera().level, camera().message) == (DiagnosticStatus.OK, "images arrive")
    assert camera().hardware_id == robot.topic
    assert int(values(engine())["cache_tokens"]) > 0
    assert values(engine())["device"] == "cpu"

    assert not robot.result(robot.ask("  ")).success
    assert robot.result(robot.ask("What is it?", max_new_tokens=3)).success
    robot.spin_until(lambda: values(engine())["questions_answered"] == "1", 10, "the answer is told of")
    told = values(engine())
    assert (told["questions_asked"], told["questions_refused"], told["refused: bad_question"]) == ("2", "1", "1")
    assert (told["questions_cancelled"], told["questions_timed_out"]) == ("0", "0")
    assert engine().level == DiagnosticStatus.OK, "a question that cannot be asked is no problem of the engine's"

    robot.publish(pictures[8], START * SECOND + 4 * SECOND, encoding="nonsense")
    robot.spin_until(lambda: engine().level == DiagnosticStatus.WARN, 10, "a lost frame is a warning")
    assert "nonsense" in engine().message
    assert values(camera())["dropped: unknown_encoding"] == "1"

    robot.spin_until(lambda: camera().level == DiagnosticStatus.ERROR, 10, "silence is an error")
    assert f"no image on {robot.topic}" in camera().message
    assert "no image on" not in engine().message
    robot.spin_until(lambda: engine().level == DiagnosticStatus.OK, 20, "the warning ends")
    robot.publish(pictures[9], START * SECOND + 5 * SECOND)
    robot.spin_until(lambda: camera().level == DiagnosticStatus.OK, 10, "so does the silence")


def test_a_model_that_cannot_be_loaded(start_node, robot, seen):
    start_node(ready=False, model="/no/such/folder")
    robot.spin_until(lambda: "stream_vl: engine" in seen, 20, "there are diagnostics")
    robot.spin_until(lambda: seen["stream_vl: engine"].level == DiagnosticStatus.ERROR, 30, "it is an error")
    assert "/no/such/folder" in seen["stream_vl: engine"].message


@pytest.mark.skipif(
    importlib.util.find_spec("diagnostic_updater") is None,
    reason="diagnostic_updater is not installed; it comes with ROS 2, not from PyPI",
)
def test_through_diagnostic_updater_where_it_is_installed(start_node, robot, pictures, seen):
    start_node()
    client = AsyncParameterClient(robot.node, "/stream_vl")
    robot.spin_until(client.services_are_ready, 10, "parameters are there")
    (period,) = robot.result(client.get_parameters(["diagnostic_updater.period"])).values
    assert period.double_value == 1.0
    robot.publish(pictures[0], SECOND)
    robot.spin_until(
        lambda: "stream_vl: camera" in seen and seen["stream_vl: camera"].message == "images arrive", 20, "its status"
    )
    assert "cache_tokens" in values(seen["stream_vl: engine"])
