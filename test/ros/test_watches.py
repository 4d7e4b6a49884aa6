"""Standing questions as other processes see them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Time
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile, ReliabilityPolicy
from stream_vl_ros.msg import Event
from stream_vl_ros.srv import Watch

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.ros.messages import to_ns
from stream_vl_ros.ros.watch_parameters import EXAMPLE, check_names, parameter_names, watch_of
from stream_vl_ros.ros.watching import watch_from

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
CHUNK = 2.0  # seconds of video: 4 frames at 2 fps
BLUE, RED = "Is there a blue square?", "Is there a red circle?"


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, list[float]]:
    return demo_clip()


class Listener:
    """A client of ~/watch, and everything that comes on ~/event."""

    def __init__(self, robot) -> None:
        self.robot = robot
        self.events: list[Event] = []
        self.client = robot.node.create_client(Watch, "/stream_vl/watch")
        qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        self.subscription = robot.node.create_subscription(Event, "/stream_vl/event", self.events.append, qos)

    def call(self, command: str, **fields: object) -> Watch.Response:
        self.robot.reach(self.client)
        return self.robot.result(self.client.call_async(Watch.Request(command=command, **fields)))

    def matched(self) -> None:
        self.robot.spin_until(
            lambda: self.robot.node.count_publishers("/stream_vl/event") == 1, 20, "the publisher of events is there"
        )
        self.robot.spin_for(0.3)

    def heard(self, count: int) -> list[tuple[str, bool, float]]:
        """The events once there are so many: name, whether it fired, seconds of the clip."""
        self.robot.spin_until(lambda: len(self.events) >= count, 30, f"{count} events, not {self.told()}")
        return self.told()

    def told(self) -> list[tuple[str, bool, float]]:
        return [(e.name, e.fired, (to_ns(e.header.stamp) - START) / SECOND) for e in self.events]


@pytest.fixture
def listener(robot):
    it = Listener(robot)
    yield it
    robot.node.destroy_client(it.client)
    robot.node.destroy_subscription(it.subscription)


def publish(robot, clip, start: float = 0.0, end: float = 24.0) -> int:
    """The demo's pictures at 4 frames a second; returns how many."""
    count = 0
    for picture, second in zip(*clip, strict=True):
        if start <= second < end:
            robot.publish(picture, START + round(second * SECOND))
            count += 1
    return count


def embedded(start_node, **parameters: object):
    return start_node(**{"model": "embedded", "target_fps": 2.0, "flush_after": 30.0} | parameters)


def test_changes_come_with_the_chunk_that_shows_them(start_node, robot, listener, clip):
    embedded(start_node)
    listener.matched()
    assert listener.call("add", name="blue", question=BLUE).success
    response = listener.call("add", name="red", question=RED, options=["yes", "no"], fires_on="yes", threshold=0.7)
    assert response.success and response.names == ["blue", "red"]
    assert list(response.probabilities) == [-1, -1] and list(response.thresholds) == [0.5, 0.7]

    publish(robot, clip, end=8.0)
    assert listener.heard(1) == [("red", True, 1.5)]
    asked = robot.ask("How many objects are there?")
    publish(robot, clip, start=8.0)
    told = listener.heard(4)
    assert robot.result(asked).success

    assert [t[:2] for t in told] == [("red", True), ("blue", True), ("red", False), ("blue", False)]
    comes, leaves, turns_yellow = (seconds for _, _, seconds in told[1:])
    assert 8.0 <= comes <= 8.0 + CHUNK and 12.0 <= leaves <= 12.0 + CHUNK and 20.0 <= turns_yellow <= 20.0 + CHUNK
    event = listener.events[1]
    assert (event.header.frame_id, event.question, event.option, event.fires_on) == ("test_camera", BLUE, "yes", "yes")
    assert event.last_stamp == event.header.stamp and to_ns(event.first_stamp) == START
    assert to_ns(event.previous_stamp) == to_ns(event.header.stamp) - round(CHUNK * SECOND)
    assert event.frames_seen == 20 and event.options == ["yes", "no"] and len(event.scores) == 2
    yes, no = map(math.exp, event.scores)
    assert event.probability == pytest.approx(yes / (yes + no)) and event.probability > 0.9
    assert (event.threshold, event.hysteresis) == (0.5, 0.1) and event.time > 0

    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].chunks == 12, 20, "all chunks are in")
    status = robot.settled(96)
    assert status.watches == 2
    assert 0 < status.last_watch_time < 60 and 0 < status.mean_watch_time < 60
    assert robot.unaccounted(status) == 0 and status.frames_dropped == 0 and status.message == ""
    listed = listener.call("list")
    assert listed.questions == [BLUE, RED] and list(listed.firing) == [False, False]
    assert all(0 <= p < 0.1 for p in listed.probabilities) and list(listed.events) == [2, 2]
    assert [to_ns(s) for s in listed.stamps] == [START + round(23.5 * SECOND)] * 2


def test_one_that_is_added_in_mid_stream_is_asked_at_once(start_node, robot, listener, clip):
    embedded(start_node)
    listener.matched()
    robot.settled(publish(robot, clip, end=10.0))
    listener.call("add", name="blue", question=BLUE)
    assert listener.heard(1) == [("blue", True, 9.5)]
    listed = listener.call("list")
    assert list(listed.firing) == [True] and listed.probabilities[0] > 0.9


def test_a_removed_one_is_silent(start_node, robot, listener, clip):
    embedded(start_node)
    listener.matched()
    for name, question in (("blue", BLUE), ("red", RED)):
        listener.call("add", name=name, question=question)
    publish(robot, clip, end=4.0)
    listener.heard(1)
    assert listener.call("remove", name="red").names == ["blue"]
    # It fired, so it is told once more, as removed; of what it would say later nothing is heard.
    assert [(name, fired) for name, fired, _ in listener.heard(2)] == [("red", True), ("red", False)]
    assert listener.events[1].removed
    publish(robot, clip, start=4.0)
    assert listener.heard(4)[2:] == [("blue", True, 9.5), ("blue", False, 21.5)]
    cleared = listener.call("clear")
    assert cleared.success and cleared.names == []
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].watches == 0, 10, "the status knows")


def test_refusals_say_what_and_why(start_node, robot, listener):
    embedded(start_node, model="random")
    assert listener.call("add", name="door", question="Is the door open?").success
    for said, command, fields in (
        ("command='watch': must be one of add, list, remove, clear", "watch", {}),
        ("name='': must be a letter", "add", {"question": "What?"}),
        ("question='': it is empty", "add", {"name": "empty"}),
        ("name='door': there is a watch of that name; remove it first", "add", {"name": "door", "question": "Again?"}),
        ("give at least two", "add", {"name": "one", "question": "What?", "options": ["yes"]}),
        ("fires_on='x': is not one of the options", "add", {"name": "x", "question": "What?", "fires_on": "x"}),
        ("threshold=2.0: must lie above 0", "add", {"name": "x", "question": "What?", "threshold": 2.0}),
        ("threshold=nan", "add", {"name": "x", "question": "What?", "threshold": math.nan}),
        ("hysteresis=0.5: must lie", "add", {"name": "x", "question": "What?", "hysteresis": 0.5}),
        ("min_interval=inf", "add", {"name": "x", "question": "What?", "min_interval": math.inf}),
        ("name='window': there is no watch of that name; there are: 'door'", "remove", {"name": "window"}),
    ):
        response = listener.call(command, **fields)
        assert not response.success
        assert said in response.error
        assert response.names == ["door"]


def test_before_any_video_it_waits(start_node, robot, listener):
    """No video yet: a watch waits, and is in the list."""
    embedded(start_node, model="random")
    assert listener.call("add", name="door", question="Is the door open?").success
    robot.spin_for(0.5)
    listed = listener.call("list")
    assert list(listed.probabilities) == [-1] and listed.errors == [""] and listed.stamps == [Time()]


def test_one_may_be_added_while_the_model_is_loading(start_node, robot, listener, clip):
    embedded(start_node, ready=False, fresh=True)
    listener.robot.reach(listener.client)
    robot.spin_until(lambda: robot.statuses, 20, "a status")
    early = robot.statuses[-1].state
    assert listener.call("add", name="red", question=RED).success
    assert early == "loading"
    robot.wait_ready()
    listener.matched()
    publish(robot, clip, end=2.0)
    assert listener.heard(1) == [("red", True, 1.5)]


def test_without_a_model_none_is_added(start_node, robot, listener, tmp_path):
    start_node(ready=False, model=str(tmp_path / "nothing"))
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "error", 60, "loading failed")
    response = listener.call("add", name="red", question=RED)
    assert not response.success and "not ready: the model could not be loaded" in response.error
    assert listener.call("list").success


def test_from_a_parameter_file(start_node, robot, listener, clip, tmp_path, ros_env):
    file = tmp_path / "watches.yaml"
    file.write_text(f"""\
/**:
  ros__parameters:
    watches: ["blue", "gone"]
    watch:
      blue:
        question: "{BLUE}"
        min_interval: 1
      gone:
        question: "{RED}"
        options: ["yes", "no"]
        fires_on: "no"
        threshold: 0.8
        hysteresis: 0.3
""")
    embedded(start_node, file=file)
    listener.matched()
    listed = listener.call("list")
    assert listed.names == ["blue", "gone"] and listed.fires_on == ["yes", "no"]
    assert list(listed.thresholds) == [0.5, 0.8] and list(listed.hysteresis) == [0.1, 0.3]
    assert list(listed.min_intervals) == [1, 0]
    publish(robot, clip)
    assert listener.heard(3) == [("blue", True, 9.5), ("gone", True, 13.5), ("blue", False, 21.5)]
    assert robot.statuses[-1].watches == 2


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"watches": "door"}, "parameter watches='door': must be a list of names"),
        ({"watches": "['door']"}, "parameter watch.door.question: not set, but watches names 'door'"),
        ({"watches": "['a door']"}, "parameter watches: name='a door': must be a letter"),
        ({"watches": "['d', 'd']", "watch.d.question": "What?"}, "'d' is there twice"),
        ({"watches": "['d']", "watch.d.question": "''"}, "parameter watch.d: question=''"),
        (
            {"watches": "['d']", "watch.d.question": "Open?", "watch.d.options": "[yes, no]"},
            "parameter watch.d.options=[True, False]: must be a list of texts",
        ),
        (
            {"watches": "['d']", "watch.d.question": "Open?", "watch.d.threshold": 7},
            "parameter watch.d: threshold=7.0: must lie above 0",
        ),
        (
            {"watches": "['d']", "watch.d.question": "Open?", "watch.d.threshold": "high"},
            "parameter watch.d.threshold='high': must be a number",
        ),
        (
            {"watches": "['d']", "watch.d.question": "Open?", "watch.d.treshold": 0.5},
            "parameter watch.d.treshold: a watch has no such parameter",
        ),
    ],
)
def test_a_wrong_watch_among_the_parameters_is_refused_at_once(start_node, parameters, said):
    node = start_node(ready=False, **parameters)
    assert node.process.wait(30) == 2
    assert said in node.log


def test_a_watch_that_is_described_but_not_named_is_not_asked(start_node, robot, listener):
    node = start_node(**{"watch.d.question": "Open?"})
    assert listener.call("list").names == []
    assert "parameter watch.d.question: watches does not name 'd'" in node.log


def test_what_fires_stops_when_it_is_removed_or_becomes_another_question(start_node, robot, listener, clip):
    embedded(start_node)
    listener.matched()
    for name in ("one", "two", "three"):
        assert listener.call("add", name=name, question=RED).success
    publish(robot, clip, 0, 6)
    listener.heard(3)
    tuner = AsyncParameterClient(robot.node, "/stream_vl")
    assert listener.call("remove", name="one").success
    assert listener.call("clear").success
    listener.heard(6)
    robot.spin_for(0.3)
    last = listener.events[3:]
    assert {e.name for e in last} == {"one", "two", "three"} and len(last) == 3
    assert all(not e.fired and e.removed and e.frames_seen > 0 and e.probability > 0.5 for e in last)

    def put(**values: object) -> None:
        robot.spin_until(tuner.services_are_ready, 30, "parameters can be set")
        parameters = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        results = robot.result(tuner.set_parameters(parameters)).results
        assert all(r.successful for r in results), results

    put(watch__sq__question=RED, watches=["sq"])
    listener.heard(7)
    put(watch__sq__threshold=0.6)  # another limit: it goes on firing
    robot.spin_for(1.0)
    assert len(listener.events) == 7
    assert listener.call("list").firing == [True]
    put(watch__sq__question="Is there a yellow triangle?")
    listener.heard(8)
    assert (listener.events[7].name, listener.events[7].fired, listener.events[7].removed) == ("sq", False, True)
    assert listener.events[7].question == RED


def test_an_empty_list_is_none(start_node, robot, listener):
    start_node(watches="[]")
    assert listener.call("list").names == []


def test_the_node_reports_its_watches_as_parameters(start_node, robot, listener, ros_env):
    from rcl_interfaces.srv import GetParameters

    start_node(**{"watches": "['d']", "watch.d.question": "Open?"})
    client = robot.node.create_client(GetParameters, "/stream_vl/get_parameters")
    robot.reach(client)
    names = ["watches", "watch.d.question", "watch.d.threshold"]
    values = robot.result(client.call_async(GetParameters.Request(names=names))).values
    robot.node.destroy_client(client)
    assert values[0].string_array_value == ["d"] and values[1].string_value == "Open?"
    assert values[2].type == 0  # not set: the default holds


def test_the_calls_in_the_readme_work():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    calls = re.findall(r'^ros2 service call /stream_vl/watch stream_vl_ros/srv/Watch "(.*)"$', readme, re.MULTILINE)
    requests = [Watch.Request(**yaml.safe_load(call)) for call in calls]
    assert [r.command for r in requests] == ["add", "list", "remove"]
    watch = watch_from(requests[0])
    assert (watch.name, watch.options, watch.threshold, watch.hysteresis) == ("person", ("yes", "no"), 0.8, 0.1)


def test_a_request_of_zeros_and_one_of_defaults_mean_the_defaults():
    for fields in ({}, {"threshold": 0.0, "min_interval": 0.0}, {"threshold": -1.0, "min_interval": -1.0}):
        watch = watch_from(Watch.Request(name="d", question="Open?", **fields))
        assert (watch.threshold, watch.hysteresis, watch.min_interval) == (0.5, 0.1, 0.0)
    assert watch_from(Watch.Request(name="d", question="Open?", hysteresis=0.0)).hysteresis == 0


def test_the_example_in_the_parameter_file_works():
    assert EXAMPLE in (Path(__file__).parents[2] / "config" / "stream_vl.yaml").read_text()
    text = "\n".join(line.removeprefix("    # ") for line in EXAMPLE.splitlines()[3:])
    example = yaml.safe_load(text)
    for name in check_names(example["watches"]):
        values = {full: example["watch"][name].get(full.rpartition(".")[2]) for full in parameter_names(name)}
        assert watch_of(name, values).question
