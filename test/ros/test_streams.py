"""Several cameras on one model, over real DDS."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from rclpy.action import ActionClient
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from stream_vl_ros.action import AskStream
from stream_vl_ros.msg import Event, StreamStatus
from stream_vl_ros.srv import Memory, Watch

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine import StreamConfig, VideoStream, load_model
from stream_vl_ros.ros.messages import wire

SECOND = 1_000_000_000
START = 1_700_000_000
NAMES = ("front", "rear")


class Cameras:
    """Publishers of several cameras, and a listener to what the node says of each."""

    def __init__(self, robot, names=NAMES) -> None:
        self.robot = robot
        node = robot.node
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        reliable = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        self.publishers = {name: node.create_publisher(Image, f"/{name}/image_raw", reliable) for name in names}
        self.statuses: dict[str, StreamStatus] = {}
        self.events: list[Event] = []
        self.subscriptions = [
            node.create_subscription(
                StreamStatus, f"/stream_vl/{name}/status", lambda s, name=name: self.statuses.update({name: s}), latched
            )
            for name in names
        ]
        self.subscriptions.append(node.create_subscription(Event, "/stream_vl/event", self.events.append, 100))

    def close(self) -> None:
        for publisher in self.publishers.values():
            self.robot.node.destroy_publisher(publisher)
        for subscription in self.subscriptions:
            self.robot.node.destroy_subscription(subscription)

    def ready(self) -> None:
        names = list(self.publishers)
        self.robot.spin_until(
            lambda: all(self.statuses.get(n) and self.statuses[n].state == "active" for n in names), 60, "all active"
        )
        self.robot.spin_until(
            lambda: all(p.get_subscription_count() > 0 for p in self.publishers.values()), 20, "cameras are matched"
        )
        self.robot.reach(self.robot.ask_client)

    def publish(self, name: str, pixels: np.ndarray, stamp_ns: int) -> None:
        message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="rgb8", step=pixels.shape[1] * 3)
        message.header.stamp = Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
        message.header.frame_id = f"{name}_optical"
        message.data = pixels.tobytes()
        self.publishers[name].publish(message)

    def show(self, name: str, pictures, begin: int = 0, period_ns: int = SECOND // 2) -> None:
        for i, picture in enumerate(pictures, begin):
            self.publish(name, picture, START * SECOND + i * period_ns)

    def settled(self, name: str, received: int) -> StreamStatus:
        def there() -> bool:
            status = self.statuses.get(name)
            return status is not None and status.frames_received >= received and status.frames_waiting == 0

        self.robot.spin_until(there, 60, f"{received} frames of {name} are settled")
        status = self.statuses[name]
        assert self.robot.unaccounted(status) == 0
        return status

    def call(self, kind, service: str, request, timeout: float = 30.0):
        client = self.robot.node.create_client(kind, f"/stream_vl/{service}")
        try:
            self.robot.reach(client)
            return self.robot.result(client.call_async(request), timeout)
        finally:
            self.robot.node.destroy_client(client)


@pytest.fixture
def cameras(robot):
    it = Cameras(robot)
    yield it
    it.close()


@pytest.fixture
def two(start_node, cameras):
    """`two(target_fps=2.0)` starts a node that watches both cameras."""

    def start(**parameters: object):
        node = start_node(ready=False, streams="['front', 'rear']", **parameters)
        cameras.ready()
        return node

    return start


def alone(pictures, question: str, tokens: int, model: str = "random") -> str:
    """What the engine says about these frames, without ROS and without another stream."""
    stream = VideoStream(load_model(model, device="cpu"), StreamConfig(target_fps=0))
    stream.append(pictures, [i / 2 for i in range(len(pictures))])
    return wire(stream.ask(question, max_new_tokens=tokens).text)


def test_each_stream_has_its_own_memory_and_status(two, cameras, robot, pictures):
    two()
    front, rear = pictures[:12], pictures[20:40]
    for i in range(20):  # interleaved, as two cameras are
        if i < 12:
            cameras.publish("front", front[i], START * SECOND + i * SECOND // 2)
        cameras.publish("rear", rear[i], START * SECOND + i * SECOND // 2)
    of_front, of_rear = cameras.settled("front", 12), cameras.settled("rear", 20)
    assert (of_front.stream, of_rear.stream) == NAMES
    assert (of_front.image_topic, of_rear.image_topic) == ("/front/image_raw", "/rear/image_raw")
    assert (of_front.header.frame_id, of_rear.header.frame_id) == ("front_optical", "rear_optical")
    assert (of_front.frames_ingested, of_rear.frames_ingested) == (12, 20)
    assert of_front.cache_tokens < of_rear.cache_tokens

    one = robot.result(robot.ask("What is it?", stream="front", max_new_tokens=20))
    two_ = robot.result(robot.ask("What is it?", stream="rear", max_new_tokens=20))
    assert (one.frames_seen, two_.frames_seen) == (12, 20)
    assert (one.answer, two_.answer) == (alone(front, "What is it?", 20), alone(rear, "What is it?", 20))
    assert (list(one.streams), list(one.answers)) == (["front"], [one.answer])

    both = robot.result(robot.ask("What is it?", stream="all", max_new_tokens=20))
    assert both.success, both.error
    assert list(both.streams) == list(NAMES)
    assert list(both.answers) == [one.answer, two_.answer]
    assert both.answer == f"front: {one.answer}\nrear: {two_.answer}"
    assert (both.frames_seen, both.answer_tokens) == (32, one.answer_tokens + two_.answer_tokens)
    assert both.last_stamp == two_.last_stamp and both.first_stamp == one.first_stamp
    scored = robot.result(robot.ask("Which?", stream="all", choices=["red", "blue"]))
    assert scored.success and len(scored.scores) == 4

    robot.spin_until(lambda: len(robot.answers) == 6, 10, "every answer is published")
    told = [(a.id, a.stream, a.header.frame_id) for a in robot.answers]
    assert told[2:4] == [(3, "front", "front_optical"), (3, "rear", "rear_optical")]


def test_a_question_names_a_stream_or_all(two, cameras, robot, pictures):
    two()
    nameless = robot.result(robot.ask("What is it?"))
    assert not nameless.success and "name one of 'front', 'rear', or 'all'" in nameless.error
    unknown = robot.result(robot.ask("What is it?", stream="left"))
    assert not unknown.success and "stream='left'" in unknown.error and "'front', 'rear'" in unknown.error
    cameras.show("front", pictures[:4])
    cameras.settled("front", 4)
    half = robot.result(robot.ask("What is it?", stream="all", max_new_tokens=5))
    assert not half.success
    assert half.answers[0] and not half.answers[1], "what could be answered is there"
    assert half.error.startswith("rear: no video yet") and not half.errors[0]
    scored = robot.result(robot.ask("Which?", stream="all", choices=["red", "blue"], remember=True))
    assert not scored.success and [math.isnan(s) for s in scored.scores] == [False, False, True, True]
    assert (scored.remembered, list(scored.remembered_by)) == (False, [True, False])
    kept = cameras.call(Memory, "snapshot", Memory.Request(stream="all", name="half"))
    assert not kept.success and list(kept.streams) == ["front"] and kept.error.startswith("rear: no video yet")
    bad = robot.result(robot.ask("  ", stream="all"))
    assert not bad.success and "empty" in bad.errors[0] and "empty" in bad.errors[1]


def test_one_camera_is_asked_without_a_name(start_node, robot, pictures):
    start_node()
    for i in range(4):
        robot.publish(pictures[i], START * SECOND + i * SECOND)
    robot.settled(4)
    for stream in ("", "all"):
        answered = robot.result(robot.ask("What is it?", stream=stream, max_new_tokens=3))
        assert answered.success and list(answered.streams) == [""] and not answered.answer.startswith(":")
    refused = robot.result(robot.ask("What is it?", stream="front"))
    assert not refused.success and "watches one camera only" in refused.error


def test_parameters_of_a_stream_beat_those_of_the_node(start_node, cameras, robot, pictures, tmp_path):
    file = tmp_path / "two.yaml"
    file.write_text(
        """
/**:
  ros__parameters:
    streams: ["front", "rear"]
    target_fps: 2.0
    stream:
      front: {image_topic: "/front/image_raw"}
      rear: {target_fps: 1.0, chunk_frames: 2, eviction: "window", budget_tokens: 64}
"""
    )
    start_node(ready=False, file=file, target_fps=2.0)
    cameras.ready()
    for name in NAMES:
        cameras.show(name, pictures[:40], period_ns=SECOND // 4)
    front, rear = cameras.settled("front", 40), cameras.settled("rear", 40)
    assert front.frames_ingested == 20, "4 a second come, 2 are kept"
    assert rear.frames_ingested == 10, "4 a second come, 1 is kept"
    assert front.evicted_frames == 0
    assert rear.cache_tokens <= 64


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"streams": "['front', 'front']"}, "'front' is there twice"),
        ({"streams": "['all']"}, "'all'"),
        ({"streams": "['front camera']"}, "no name of a stream"),
        ({"streams": "front"}, "must be a list of names"),
        ({"stream.front.target_fps": 1.0}, "does not name 'front'"),
        ({"streams": "['front']", "stream.front.model": "random"}, "no such parameter of its own"),
        ({"streams": "['front']", "stream.front.chunk_frames": 0}, "stream.front.chunk_frames=0"),
        ({"streams": "['front']", "stream.front.eviction": "window"}, "stream.front"),
        ({"streams": "['front']", "stream.front.image_topic": "no topic!"}, "no topic!"),
        ({"streams": "['front']", "watches": "['a']", "watch.a.question": "Who?", "watch.a.stream": "rear"}, "rear"),
    ],
)
def test_streams_that_cannot_work_end_the_node_with_the_reason(start_node, parameters, said):
    node = start_node(ready=False, **parameters)
    assert node.process.wait(40) == 2
    assert said in node.log and "Traceback" not in node.log


def test_memories_and_resets_of_each_stream(two, cameras, robot, pictures):
    two()
    for name in NAMES:
        cameras.show(name, pictures[:8])
        cameras.settled(name, 8)
    kept = cameras.call(Memory, "snapshot", Memory.Request(stream="all", name="start"))
    assert kept.success, kept.error
    assert (list(kept.streams), list(kept.names)) == (["front", "rear"], ["start", "start"])
    nameless = cameras.call(Memory, "snapshot", Memory.Request(name="start"))
    assert not nameless.success and "name one of" in nameless.error

    assert cameras.call(Trigger, "front/reset", Trigger.Request()).success
    forgotten = robot.result(robot.ask("What is it?", stream="front"))
    assert not forgotten.success and "no video yet" in forgotten.error
    assert robot.result(robot.ask("What is it?", stream="rear", max_new_tokens=3)).frames_seen == 8
    assert cameras.call(Memory, "restore", Memory.Request(stream="front", name="start")).success
    assert robot.result(robot.ask("What is it?", stream="front", max_new_tokens=3)).frames_seen == 8
    only = cameras.call(Memory, "discard", Memory.Request(stream="front", name="start"))
    assert only.success and not only.names
    gone = cameras.call(Memory, "restore", Memory.Request(stream="all", name="start"))
    assert not gone.success and "front: name='start'" in gone.error

    assert cameras.call(Trigger, "reset", Trigger.Request()).success
    for name in NAMES:
        assert not robot.result(robot.ask("What is it?", stream=name)).success


def test_watches_of_each_stream(two, cameras, robot):
    """The same question about two scenes fires in the one where it is so, and says which."""
    two(model="embedded", target_fps=2.0)
    question = "Is there a blue square?"
    add = Watch.Request(command="add", name="blue", question=question, stream="all")
    assert cameras.call(Watch, "watch", add).success
    again = cameras.call(Watch, "watch", add)
    assert not again.success and "blue" in again.error
    red = Watch.Request(command="add", name="red", question="Is there a red circle?", stream="rear")
    listed = cameras.call(Watch, "watch", red)
    assert listed.success and list(listed.streams) == ["rear", "rear"]
    listed = cameras.call(Watch, "watch", Watch.Request(command="list"))
    assert list(zip(listed.streams, listed.names, strict=True)) == [
        ("front", "blue"),
        ("rear", "blue"),
        ("rear", "red"),
    ]

    frames, stamps = demo_clip()
    early = [f for f, s in zip(frames, stamps, strict=True) if s < 5]  # the red circle alone
    late = [f for f, s in zip(frames, stamps, strict=True) if 9 <= s < 14]  # and the blue square
    cameras.show("front", late, period_ns=SECOND // 4)
    cameras.show("rear", early, period_ns=SECOND // 4)
    cameras.settled("front", len(late))
    cameras.settled("rear", len(early))
    robot.spin_until(lambda: len(cameras.events) >= 2, 20, "both fire")
    robot.spin_for(0.5)
    fired = {(e.stream, e.name) for e in cameras.events if e.fired}
    assert fired == {("front", "blue"), ("rear", "red")}
    assert {e.header.frame_id for e in cameras.events} == {"front_optical", "rear_optical"}

    gone = cameras.call(Watch, "watch", Watch.Request(command="remove", name="blue", stream="front"))
    assert gone.success and not gone.names
    assert cameras.call(Watch, "watch", Watch.Request(command="clear")).success


def test_the_action_labels_what_each_stream_says(two, cameras, robot, pictures, feedback, endless_checkpoint):
    two(model=endless_checkpoint)  # answers of many pieces
    for name, clip in zip(NAMES, (pictures[:8], pictures[8:16]), strict=True):
        cameras.show(name, clip)
        cameras.settled(name, 8)
    client = ActionClient(robot.node, AskStream, "/stream_vl/ask_stream")
    robot.spin_until(client.server_is_ready, 20, "the action is there")
    told = feedback()
    asked = AskStream.Goal(question="What is it?", stream="all", max_new_tokens=30)
    goal = robot.result(client.send_goal_async(asked))
    result = robot.result(goal.get_result_async()).result
    assert result.success, result.error
    answers = dict(zip(NAMES, result.answers, strict=True))
    robot.spin_until(lambda: {n: told.written(n) for n in NAMES} == answers, 10, "all pieces are the answers")
    assert all(len(told.pieces[name]) > 5 for name in NAMES)
    client.destroy()


def test_a_flooded_camera_does_not_hold_up_the_other(two, cameras, robot, pictures, endless_checkpoint):
    """One camera sends more than can be encoded; the other one's frames are taken and its answers written."""
    two(model=endless_checkpoint, queue_frames=16, qos_depth=16, chunk_frames=2)
    cameras.show("rear", pictures[:8])
    cameras.settled("rear", 8)
    sent, calm = 0, 8
    asked = [robot.ask("What is it?", stream="rear", max_new_tokens=200, timeout=60.0) for _ in range(2)]
    begin = time.monotonic()
    while not all(f.done() for f in asked):
        assert time.monotonic() < begin + 60, "the calm camera's answers are held up"
        for _ in range(5):
            cameras.publish("front", pictures[sent % 64], START * SECOND + sent * SECOND // 10)
            sent += 1
        if time.monotonic() > begin + (calm - 8) / 5:  # 5 a second by the clock, however slow the machine is
            cameras.publish("rear", pictures[calm % 64], START * SECOND + calm * SECOND // 2)
            calm += 1
        robot.executor.spin_once(timeout_sec=0.002)
    assert all(f.result().success and f.result().answer_tokens == 200 for f in asked)
    robot.spin_for(1.5)
    rear, front = cameras.statuses["rear"], cameras.statuses["front"]
    assert rear.frames_dropped == 0, "the calm camera loses nothing"
    assert front.frames_ingested > 0
    assert robot.unaccounted(rear) == robot.unaccounted(front) == 0


def test_sixteen_clients_at_once(two, cameras, robot, pictures, ros_env):
    """16 processes ask at the same moment while both cameras send; each gets the answer to its own question.

    They keep as many responses as README advises. Plain clients keep 10, their own and those to others alike, and one
    that does not run for a moment on a busy machine would miss its own.
    """
    two()
    for name, clip in zip(NAMES, (pictures[:16], pictures[16:32]), strict=True):
        cameras.show(name, clip)
        cameras.settled(name, 16)
    code = (
        "import sys, json, rclpy\n"
        "from rclpy.qos import QoSProfile\n"
        "from stream_vl_ros.srv import Ask\n"
        "rclpy.init(); n = rclpy.create_node('client_' + sys.argv[1])\n"
        "c = n.create_client(Ask, '/stream_vl/ask', qos_profile=QoSProfile(depth=1000))\n"
        "assert c.wait_for_service(60)\n"
        "print('here', flush=True); sys.stdin.readline()\n"
        "q = 'What is number ' + sys.argv[1] + '?'\n"
        "f = c.call_async(Ask.Request(question=q, stream=sys.argv[2], max_new_tokens=20, timeout=100.0))\n"
        "rclpy.spin_until_future_complete(n, f, timeout_sec=120); r = f.result()\n"
        "print(json.dumps([r.success, r.error, r.answer, r.frames_seen]), flush=True)\n"
    )
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(i), NAMES[i % 2]],
            env=ros_env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(16)
    ]
    try:
        for client in clients:
            while client.stdout.readline().strip() != "here":
                assert client.poll() is None, "the client died"
        for client in clients:
            client.stdin.write("\n")
            client.stdin.flush()
        for i in range(16, 32):  # meanwhile
            cameras.publish("front", pictures[i], START * SECOND + i * SECOND // 2)
            robot.executor.spin_once(timeout_sec=0.01)
        answers = [json.loads(client.communicate(timeout=150)[0]) for client in clients]
    finally:
        for client in clients:
            client.kill()
    assert all(success for success, *_ in answers), answers
    model = load_model("random", device="cpu")
    front, rear = (VideoStream(model, StreamConfig(target_fps=0)) for _ in NAMES)
    rear.append(pictures[16:32], [i / 2 for i in range(16)])
    by_frames = {}
    for k in range(32):
        front.append(pictures[k : k + 1], [k / 2])
        by_frames[k + 1] = [wire(front.ask(f"What is number {i}?", max_new_tokens=20).text) for i in range(0, 16, 2)]
    for i, (_, _, answer, seen) in enumerate(answers):
        if i % 2:
            assert seen == 16 and answer == wire(rear.ask(f"What is number {i}?", max_new_tokens=20).text)
        else:
            assert 16 <= seen <= 32 and answer == by_frames[seen][i // 2]
    for name in NAMES:
        status = cameras.statuses[name]
        assert robot.unaccounted(status) == 0 and status.frames_dropped == 0
    robot.spin_until(lambda: sum(cameras.statuses[n].questions_answered for n in NAMES) >= 16, 10, "all 16 are counted")
    asked = {f"What is number {i}?" for i in range(16)}
    robot.spin_until(lambda: {a.question for a in robot.answers} == asked, 10, "all 16 are published")
    assert sum(cameras.statuses[n].questions_asked - cameras.statuses[n].questions_answered for n in NAMES) == 0
