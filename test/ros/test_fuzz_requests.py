"""Mutated requests to every service over real DDS; hundreds more are in test/fuzz."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path

import pytest
from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from rclpy.serialization import deserialize_message, serialize_message
from stream_vl_ros.action import AskStream
from stream_vl_ros.srv import Memory, Watch

sys.path.append(str(Path(__file__).parent.parent / "fuzz"))
from mutated_images import SECOND, START, good
from mutated_parameters import NAMES, VALUES
from mutated_requests import NUMBERS, TEXTS, request, text

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.ros.parameters import PARAMETERS

RIGHT = "a red circle, a blue square"
# MiB that the node may take more in a test, as long as any of those in test/fuzz.
MOST = 60
NO_UTF_8 = (b"\xff\xff\xff\xff", b"\xed\xa0\x80!", b"\xc0\x80\xf8\x88", b"\x80\x80\x80\x80", b"\0\0\0\0")


@pytest.fixture
def node(start_node, robot, tmp_path):
    """One that has seen the scene; it has to answer afterwards, and to take no more memory than before."""
    it = start_node(model="embedded", publish_signature=True, memory_folder=tmp_path / "memories")
    pictures, seconds = demo_clip(10.0)
    for picture, second in zip(pictures, seconds, strict=True):
        robot.camera.publish(good(picture, START + int(second * SECOND)))
    robot.settled(len(pictures))
    assert robot.result(robot.ask("What is visible now?", regex="[a-z, ]+"), 60).answer == RIGHT
    before = it.resident
    yield it
    response = robot.result(robot.ask("What is visible now?"), 60)
    assert response.success and response.answer == RIGHT, response
    assert it.resident - before < MOST
    assert it.process.poll() is None and "Traceback" not in it.log


@pytest.fixture
def client(node, robot):
    """`client(Watch, "watch")` is one of that service of the node, which can be called."""
    with contextlib.ExitStack() as stack:

        def made(kind, service):
            it = robot.node.create_client(kind, f"/stream_vl/{service}")
            stack.callback(robot.node.destroy_client, it)
            robot.reach(it)
            return it

        yield made


def test_mutated_questions(node, robot):
    def signature() -> str:
        robot.statuses.clear()
        robot.spin_until(lambda: len(robot.statuses) > 2, 20, "it is told twice")
        return robot.statuses[-1].cache_signature

    before, refused = signature(), 0
    for number in range(120):
        fields = request(7, number)
        response = robot.result(robot.ask(**fields), 30)
        assert response.success or response.error, (number, fields)
        assert len(response.error) < 2300
        refused += not response.success
    assert refused > 30
    assert before and signature() == before
    robot.spin_until(lambda: len(robot.answers) >= 100, 10, "answers and refusals are published")


def test_text_that_rclpy_does_not_send(node, robot):
    """Half a surrogate pair cannot leave a client; a NUL ends the text on its way."""
    with pytest.raises(UnicodeEncodeError):
        robot.ask("\ud800")
    assert "empty" in robot.result(robot.ask("\0What is visible now?")).error


def test_memories_and_watches(robot, client):
    clients = {service: client(Memory, service) for service in ("snapshot", "restore", "discard")}
    watch = client(Watch, "watch")
    random_ = random.Random(9)
    names = (*TEXTS, "../../etc/passwd", "/etc/passwd", "x" * 257)
    for _ in range(60):
        name, stream = random_.choice(names), random_.choice(("", "", "all", "x" * 100_000, "../.."))
        response = robot.result(clients["snapshot"].call_async(Memory.Request(name=name, stream=stream)))
        assert response.success or response.error
        kept = [*response.names, ""][0]
        for kind in ("restore", "discard"):
            wrong = robot.result(clients[kind].call_async(Memory.Request(name=random_.choice(names) + "?")))
            assert not wrong.success and 0 < len(wrong.error) < 2300
        if kept:
            assert robot.result(clients["discard"].call_async(Memory.Request(name=kept))).success
    for _ in range(150):
        fields = {
            "command": random_.choice(("add", "add", "remove", "list", "clear", "", "ADD", "x" * 100_000)),
            "name": random_.choice(("door", "a b", "", "x" * 65, "é", *TEXTS)),
            "question": text(random_),
            "options": random_.choice(([], ["yes"], ["a", "a"], ["yes", "no"], [""], ["x" * 100_000, "y"])),
            "fires_on": random_.choice(("", "yes", "nobody", "\n")),
            "threshold": random_.choice((0.5, *NUMBERS)),
            "hysteresis": random_.choice((0.1, *NUMBERS)),
            "min_interval": random_.choice((0.0, *NUMBERS)),
        }
        response = robot.result(watch.call_async(Watch.Request(**fields)))
        assert response.success or 0 < len(response.error) < 2300, fields
    assert robot.result(watch.call_async(Watch.Request(command="clear"))).success


def test_memories_on_disk(robot, client, tmp_path):
    """Names as an attacker would choose them: each becomes one folder in the node's own, or is refused."""
    clients = {service: client(Memory, service) for service in ("save_memory", "load_memory")}
    random_, folder, outside = random.Random(17), tmp_path / "memories", set(tmp_path.iterdir())
    names = [*TEXTS, *(text(random_) for _ in range(30)), "../../etc/passwd", "/etc/passwd", "..", "x" * 128, "x" * 129]
    names += ["kitchen", "kitchen "]
    whole = serialize_message(Memory.Request(name="NNNN"))
    requests = [Memory.Request(name=name) for name in names]
    requests += [deserialize_message(whole.replace(b"NNNN", bad), Memory.Request) for bad in NO_UTF_8]
    requests += [
        Memory.Request(name="kitchen", stream=stream) for stream in ("x" * 1_000_000, "../..", "\x1b[2J", "all")
    ]
    random_.shuffle(requests)
    kept = set()
    for request_ in requests:
        saved = robot.result(clients["save_memory"].call_async(request_))
        assert saved.success or 0 < len(saved.error) < 2300, request_
        kept.update(saved.names)
        loaded = robot.result(clients["load_memory"].call_async(request_))
        assert loaded.success == saved.success, (request_.name[:80], saved.error, loaded.error)
        wrong = robot.result(
            clients["load_memory"].call_async(Memory.Request(name=request_.name.partition("\0")[0][:100] + "?"))
        )
        assert not wrong.success and 0 < len(wrong.error) < 2300
    assert 5 < len(kept) < len(requests) // 2
    assert {path.name for path in folder.iterdir()} == kept
    assert set(tmp_path.iterdir()) == {*outside, folder}


def test_transitions(robot, client):
    """Ids and labels that the state does not know or does not allow: each is refused, and the node stays active."""
    change, state = client(ChangeState, "change_state"), client(GetState, "get_state")
    possible = {"deactivate", "shutdown"}
    transitions = [Transition(id=number) for number in range(256) if number not in (4, 5, 7)]
    whole = serialize_message(Transition(label="LLLL"))
    transitions += [deserialize_message(whole.replace(b"LLLL", bad), Transition) for bad in NO_UTF_8]
    labels = ("activate", "configure", "cleanup", "Deactivate", "deactivate ", "transition_success", "active", *TEXTS)
    transitions += [Transition(id=4, label=label) for label in labels if label.partition("\0")[0]]
    random.Random(19).shuffle(transitions)
    for transition in transitions:
        assert transition.label not in possible
        response = robot.result(change.call_async(ChangeState.Request(transition=transition)))
        assert not response.success, transition
    assert robot.result(state.call_async(GetState.Request())).current_state.label == "active"


def test_parameters(robot, client):
    """Whatever is set: taken, or refused with a reason; what the node needs to answer is put back in the end."""
    change = client(SetParameters, "set_parameters")
    random_ = random.Random(11)
    kinds = (type(None), bool, int, float, str)
    values = [v for v in VALUES if isinstance(v, kinds) or (isinstance(v, list) and all(isinstance(x, str) for x in v))]
    refused = 0
    for _ in range(200):
        name, value = random_.choice(NAMES), random_.choice(values)
        if value == "\ud800" or name == "publish_signature" or (isinstance(value, int) and abs(value) >= 2**63):
            continue
        parameter = Parameter(name, value=value).to_parameter_msg()
        (result,) = robot.result(change.call_async(SetParameters.Request(parameters=[parameter]))).results
        assert result.successful or 0 < len(result.reason) < 2300, (name, value)
        refused += not result.successful
    assert refused > 100
    back = [Parameter(p.name, value=p.default).to_parameter_msg() for p in PARAMETERS if p.changes == "live"]
    robot.result(change.call_async(SetParameters.Request(parameters=back)))
    # Settings such as the system prompt begin the memory anew.
    assert robot.result(robot.reset_client.call_async(robot.reset_client.srv_type.Request())).success
    received = robot.statuses[-1].frames_received
    pictures, seconds = demo_clip(10.0)
    for picture, second in zip(pictures, seconds, strict=True):
        robot.camera.publish(good(picture, START + int(second * SECOND)))
    robot.settled(received + len(pictures), waiting=1)


def test_parameters_together(robot, client):
    """Several at once are all taken, or none is, with a reason."""
    change = client(SetParametersAtomically, "set_parameters_atomically")
    get = client(GetParameters, "get_parameters")
    random_, names = random.Random(23), ["ask_timeout", "max_new_tokens", "max_gap"]
    wrong = [v for v in VALUES if isinstance(v, str) and v != "\ud800"]

    def values() -> list[object]:
        return robot.result(get.call_async(GetParameters.Request(names=names))).values

    before = values()
    for _ in range(40):
        spoilt = [
            Parameter("ask_timeout", value=random_.uniform(1, 9)),
            Parameter("max_gap", value=random_.choice(wrong)),
        ]
        spoilt.insert(random_.randrange(3), Parameter(random_.choice(NAMES), value=random_.choice(wrong)))
        request_ = SetParametersAtomically.Request(parameters=[p.to_parameter_msg() for p in spoilt])
        result = robot.result(change.call_async(request_)).result
        assert not result.successful and 0 < len(result.reason) < 2300, request_
        assert values() == before


def test_types_of_parameters(robot, client):
    """A type that there is not, or that the parameter does not have: refused, and so is what comes with it."""
    one = client(SetParameters, "set_parameters")
    together = client(SetParametersAtomically, "set_parameters_atomically")
    good_ = Parameter("ask_timeout", value=60.0).to_parameter_msg()
    for kind in (*range(11), 99, 255):
        name = "model" if kind != ParameterType.PARAMETER_STRING else "chunk_frames"
        bad = ParameterMessage(name=name, value=ParameterValue(type=kind))
        results = robot.result(one.call_async(SetParameters.Request(parameters=[good_, bad, bad]))).results
        assert [r.successful for r in results] == [True, False, False], kind
        result = robot.result(together.call_async(SetParametersAtomically.Request(parameters=[good_, bad]))).result
        assert not result.successful
        for reason in (results[1].reason, results[2].reason, result.reason):
            assert 0 < len(reason) < 2300, (kind, reason)


def test_names_of_parameters(robot, client):
    """Whatever is asked for: a response, and it is as good as none for what there is not."""
    asked = {
        "get_parameters": (GetParameters, "names", "values"),
        "get_parameter_types": (GetParameterTypes, "names", "types"),
        "describe_parameters": (DescribeParameters, "names", "descriptors"),
        "list_parameters": (ListParameters, "prefixes", "result"),
    }
    for service, (kind, field, told) in asked.items():
        get = client(kind, service)
        for name in (*TEXTS, *NAMES[-5:], "target_fps.", "x" * 255):
            response = robot.result(get.call_async(kind.Request(**{field: [name, "target_fps"]})))
            assert getattr(response, told) is not None, (service, name)


def test_goals(node, robot):
    client = ActionClient(robot.node, AskStream, "/stream_vl/ask_stream")
    assert client.wait_for_server(10)
    ended = set()
    for number in range(60):
        fields = request(13, number)
        handle = robot.result(client.send_goal_async(AskStream.Goal(**fields)))
        assert handle.accepted
        if number % 5 == 0:
            robot.result(handle.cancel_goal_async())
        outcome = robot.result(handle.get_result_async())
        ended.add(outcome.status)
        assert outcome.result.success or 0 < len(outcome.result.error) < 2300, fields
    assert GoalStatus.STATUS_SUCCEEDED in ended and GoalStatus.STATUS_ABORTED in ended
    client.destroy()
