"""Parameters that are changed while the node runs, over real DDS."""

from __future__ import annotations

import pytest
from rcl_interfaces.srv import DescribeParameters
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from stream_vl_ros.srv import Watch

from stream_vl_ros.ros.parameters import PARAMETERS

SECOND = 1_000_000_000
START = 1_700_000_000


class Tuner:
    """`ros2 param set`."""

    def __init__(self, robot) -> None:
        self.robot = robot
        self.client = AsyncParameterClient(robot.node, "/stream_vl")

    def set(self, **values: object) -> list[str]:
        """Set one after the other, as `ros2 param set` does; the reasons of refusals, empty where there was none."""
        return [r.reason for r in self._results(self.client.set_parameters, values)]

    def set_together(self, values: dict[str, object]) -> str:
        self.robot.spin_until(self.client.services_are_ready, 20, "parameters can be set")
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        return self.robot.result(self.client.set_parameters_atomically(parameters)).result.reason

    def _results(self, send, values):
        self.robot.spin_until(self.client.services_are_ready, 20, "parameters can be set")
        parameters = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        results = self.robot.result(send(parameters)).results
        for result in results:
            assert result.successful == (not result.reason)
        return results

    def get(self, *names: str) -> list[object]:
        from rclpy.parameter import parameter_value_to_python

        values = self.robot.result(self.client.get_parameters(list(names))).values
        return [parameter_value_to_python(v) for v in values]


@pytest.fixture
def tuner(robot):
    return Tuner(robot)


def publish(robot, pictures, begin: int, end: int, fps: int = 4) -> None:
    for i in range(begin, end):
        robot.publish(pictures[i % len(pictures)], START * SECOND + i * SECOND // fps)


def test_fps_changes_at_once(start_node, robot, pictures, tuner):
    start_node(target_fps=1.0)
    publish(robot, pictures, 0, 16)
    assert robot.settled(16, waiting=1).frames_ingested in (3, 4)
    before = robot.statuses[-1]
    assert tuner.set(target_fps=4.0) == [""]
    publish(robot, pictures, 16, 32)
    after = robot.settled(32, waiting=1)
    assert after.frames_skipped == before.frames_skipped, "every frame is kept from now on"
    assert robot.unaccounted(after) == 0 and after.frames_dropped == 0
    assert robot.result(robot.ask("What is it?", max_new_tokens=3)).frames_seen == 20, "what was seen before is kept"


def test_budget_changes_at_once(start_node, robot, pictures, tuner):
    node = start_node(target_fps=0.0)
    publish(robot, pictures, 0, 48)
    held = robot.settled(48).cache_tokens
    assert "needs a budget" in tuner.set(eviction="window")[0]
    assert tuner.set_together({"eviction": "window", "budget_tokens": held // 2}) == ""
    robot.spin_until(
        lambda: robot.statuses and robot.statuses[-1].cache_tokens <= held // 2, 10, "room is made at once"
    )
    assert robot.statuses[-1].evicted_frames > 0
    publish(robot, pictures, 48, 64)
    status = robot.settled(64)
    assert status.cache_tokens <= held // 2 and robot.unaccounted(status) == 0
    assert tuner.set(budget_tokens=100_000) == [""]
    publish(robot, pictures, 64, 120)
    assert robot.settled(120).cache_tokens > held // 2
    # One that cannot hold two chunks of the present pictures is known to be wrong, here and now.
    refused = tuner.set(budget_tokens=3)[0]
    assert "budget_tokens=3" in refused and "tokens" in refused
    assert tuner.get("budget_tokens") == [100_000]
    assert "parameters changed: eviction 'none' -> 'window', budget_tokens 0 ->" in node.log


def test_the_prompt_changes_at_once_and_begins_the_memory_anew(start_node, robot, pictures, tuner):
    node = start_node()
    publish(robot, pictures, 0, 8)
    robot.settled(8)
    before = robot.result(robot.ask("What is it?", max_new_tokens=12))
    assert tuner.set(system_prompt="Answer like a pirate.") == [""]
    forgotten = robot.result(robot.ask("What is it?"))
    assert not forgotten.success and "no video yet" in forgotten.error
    assert (
        "system_prompt 'You are a helpful assistant.' -> 'Answer like a pirate.'; all video was forgotten" in node.log
    )
    publish(robot, pictures, 8, 16)
    robot.settled(16)
    after = robot.result(robot.ask("What is it?", max_new_tokens=12))
    assert after.frames_seen == 8 and after.answer != before.answer
    assert robot.unaccounted(robot.statuses[-1]) == 0


def test_questions_follow_their_parameters(start_node, robot, pictures, tuner, endless_checkpoint):
    start_node(model=endless_checkpoint)
    publish(robot, pictures, 0, 8)
    robot.settled(8)
    assert tuner.set(max_new_tokens=7, ask_timeout=0.3) == ["", ""]
    assert robot.result(robot.ask("What is it?")).answer_tokens == 7
    late = robot.result(robot.ask("What is it?", max_new_tokens=100_000))
    assert not late.success and "timed out after" in late.error
    assert 0.3 <= late.total_time < 5  # an answer's timeout is 60 s by default
    assert tuner.set(max_questions=1, ask_timeout=60.0) == ["", ""]
    robot.spin_for(0.3)  # the engine takes it in its turn
    busy = robot.ask("What is it?", max_new_tokens=100_000)
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].questions_active == 1, 10, "one is being answered")
    refused = robot.result(robot.ask("What is it?"))
    assert not refused.success and "max_questions is 1" in refused.error
    assert tuner.set(max_questions=2) == [""]
    robot.spin_for(0.3)
    assert robot.result(robot.ask("What is it?")).success
    assert not busy.done()


def test_watches_come_and_go(start_node, robot, tuner):
    start_node(model="embedded")
    client = robot.node.create_client(Watch, "/stream_vl/watch")

    def listed() -> dict[str, tuple[str, float]]:
        robot.reach(client)
        response = robot.result(client.call_async(Watch.Request(command="list")))
        return {n: (q, t) for n, q, t in zip(response.names, response.questions, response.thresholds, strict=True)}

    assert "watch.red.question: not set" in tuner.set(watches=["red"])[0]
    assert tuner.set(watch__red__question="Is there a red circle?", watches=["red"]) == ["", ""]
    assert listed() == {"red": ("Is there a red circle?", 0.5)}
    by_hand = Watch.Request(command="add", name="own", question="Is there a blue square?")
    assert robot.result(client.call_async(by_hand)).success
    assert tuner.set(watch__red__threshold=0.9) == [""]
    assert listed()["red"] == ("Is there a red circle?", 0.9)
    assert "threshold=1.5" in tuner.set(watch__red__threshold=1.5)[0]
    assert "no such parameter" in tuner.set(watch__red__colour="red")[0]
    assert tuner.set(watches=[""])[0].startswith("parameter watches")
    assert set(listed()) == {"red", "own"}
    # An empty list has no type on ROS's wire: that is how `ros2 param set ... "[]"` sends it.
    assert tuner.set(watch__blue__question="Is it blue?", watches=["blue"]) == ["", ""]
    assert set(listed()) == {"blue", "own"}
    robot.node.destroy_client(client)


REFUSED = [
    ({"target_fps": -1.0}, "target_fps"),
    ({"target_fps": "fast"}, "must be a number"),
    ({"chunk_frames": 0}, "chunk_frames"),
    ({"eviction": "random"}, "must be one of none, window, importance"),
    ({"model": "embedded"}, "it is read when the node is configured"),
    ({"image_topic": "/other"}, "it is read when the node is configured"),
    ({"autostart": False}, "read-only"),
    ({"streams": ["front"]}, "read-only"),
    ({"target_fsp": 4.0}, "did you mean target_fps?"),
    ({"zzz": 4.0}, "there is no such parameter"),
    ({"stream__front__target_fps": 4.0}, "does not name 'front'"),
    ({"watch": 5}, "write watch.NAME.PARAMETER"),
    ({"stream": 5}, "write stream.NAME.PARAMETER"),
    ({"watch__question": "Who?"}, "write watch.NAME.PARAMETER"),
    ({"watches": [1, 2]}, "must be a list of names"),
]


def test_what_cannot_work_is_refused_with_the_reason(start_node, robot, tuner):
    start_node(target_fps=2.0)
    for values, said in REFUSED:
        (reason,) = tuner.set(**values)
        assert said in reason, values
    # Of several at once, all or none are taken.
    assert "chunk_frames" in tuner.set_together({"target_fps": 5.0, "chunk_frames": 0})
    assert tuner.get("target_fps", "chunk_frames", "model") == [2.0, 4, "random"]
    assert tuner.set_together({"target_fps": 5.0, "chunk_frames": 2}) == ""
    assert tuner.get("target_fps", "chunk_frames") == [5.0, 2]
    assert tuner.set(target_fps=3) == [""], "a whole number is a number"
    assert tuner.set(model="random", image_topic=robot.topic) == ["", ""], "nothing new is no change"


def test_what_is_set_while_the_model_loads_holds(start_node, robot, pictures, tuner):
    start_node(ready=False, fresh=True, target_fps=1.0)
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "loading", 20, "it is loading")
    assert tuner.set(target_fps=4.0, max_new_tokens=5) == ["", ""]
    assert "read when the node is configured" in tuner.set(model="embedded")[0]
    assert robot.statuses[-1].state == "loading"
    robot.wait_ready()
    publish(robot, pictures, 0, 16)
    assert robot.settled(16, waiting=1).frames_skipped == 0
    assert robot.result(robot.ask("What is it?")).answer_tokens <= 5


def test_a_topic_that_is_none_is_refused_also_while_unconfigured(start_node, robot, tuner):
    node = start_node(ready=False, autostart=False)
    assert "not the name of a topic" in tuner.set(image_topic="bad topic!")[0]
    assert tuner.set(image_topic="/other/image") == [""]
    assert node.process.poll() is None
    robot.spin_until(
        lambda: robot.statuses and robot.statuses[-1].image_topic == "/other/image", 10, "the new one is told"
    )


def test_more_watches_than_there_may_be_are_refused(start_node, robot, tuner):
    node = start_node(ready=False, autostart=False)
    client = robot.node.create_client(Watch, "/stream_vl/watch")
    robot.reach(client)
    for i in range(256):
        request = Watch.Request(command="add", name=f"w{i}", question="Is it so?")
        assert robot.result(client.call_async(request)).success
    said = tuner.set(watch__z__question="Who?", watches=["z"])
    assert said[0] == "" and "there would be 257 watches" in said[1]
    assert node.process.poll() is None
    robot.node.destroy_client(client)


def test_what_is_dumped_can_be_loaded(start_node, robot, tuner, tmp_path):
    """As `ros2 param dump` and `ros2 param load` do it: every parameter that is listed, with its value."""
    start_node(ready=False, streams="['front', 'rear']", **{"stream.rear.target_fps": 1.0})
    robot.spin_until(tuner.client.services_are_ready, 30, "parameters are there")
    names = robot.result(tuner.client.list_parameters([], 0)).result.names
    ours = [n for n in names if not n.startswith(("qos_overrides", "use_sim_time", "start_type"))]
    values = dict(zip(ours, tuner.get(*ours), strict=True))
    assert None not in values.values(), "it would come back as a text"
    writable = {n: v for n, v in values.items() if n not in ("autostart", "streams", "watches")}
    assert set(tuner.set(**writable)) == {""}


def test_descriptions_and_flags(start_node, robot):
    start_node()
    client = robot.node.create_client(DescribeParameters, "/stream_vl/describe_parameters")
    robot.reach(client)
    names = [p.name for p in PARAMETERS]
    descriptors = robot.result(client.call_async(DescribeParameters.Request(names=names))).descriptors
    for parameter, descriptor in zip(PARAMETERS, descriptors, strict=True):
        assert descriptor.description == parameter.description
        assert descriptor.read_only == (parameter.changes == "never")
        assert ("unconfigured" in descriptor.additional_constraints) == (parameter.changes == "unconfigured")
        if isinstance(parameter.default, float):
            (limits,) = descriptor.floating_point_range
            assert (limits.from_value, limits.to_value) == (parameter.low, parameter.high)
    robot.node.destroy_client(client)


def test_a_parameter_that_there_is_not_is_warned_of(start_node):
    node = start_node(chunk_framez=3, nosuch="x", use_sim_time=False)
    assert "parameter chunk_framez is ignored: there is none of that name; did you mean chunk_frames?" in node.log
    assert "parameter nosuch is ignored" in node.log and "use_sim_time is ignored" not in node.log
    assert node.log.count("is ignored") == 2
