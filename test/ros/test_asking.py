"""The action and what a question may ask for, over real DDS."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from stream_vl_ros.action import AskStream

SECOND = 1_000_000_000
START = 1_700_000_000


def watch(robot, pictures, count: int) -> None:
    for i in range(count):
        robot.publish(pictures[i], START * SECOND + i * SECOND // 2)
    robot.settled(count)


class Stream:
    """One goal of `~/ask_stream`, and what comes of it."""

    def __init__(self, robot, client: ActionClient, question: str, **fields: object) -> None:
        self.robot = robot
        self.pieces: list[str] = []
        accepted = client.send_goal_async(
            AskStream.Goal(question=question, **fields),
            feedback_callback=lambda message: self.pieces.append(message.feedback.text),
        )
        self.handle = robot.result(accepted)
        assert self.handle.accepted
        self.future = self.handle.get_result_async()

    def end(self, timeout: float = 60.0):
        return self.robot.result(self.future, timeout)


@pytest.fixture
def client(robot):
    it = ActionClient(robot.node, AskStream, "/stream_vl/ask_stream")
    yield it
    it.destroy()


def test_text_comes_as_it_is_written(start_node, robot, pictures, client, feedback, endless_checkpoint):
    start_node(model=endless_checkpoint)
    watch(robot, pictures, 8)
    robot.spin_until(client.server_is_ready, 10, "the action is there")
    told = feedback()
    ended = Stream(robot, client, "What is it?", max_new_tokens=60).end()
    assert ended.status == GoalStatus.STATUS_SUCCEEDED
    assert ended.result.success
    assert ended.result.frames_seen == 8
    robot.spin_until(lambda: told.written() == ended.result.answer, 10, "all pieces are the answer")
    assert len(told.pieces[""]) > 5
    same = robot.result(robot.ask("What is it?", max_new_tokens=60))
    assert same.answer == ended.result.answer
    robot.spin_until(lambda: len(robot.answers) >= 2, 10, "both are published")
    assert [a.answer for a in robot.answers[-2:]] == [same.answer] * 2


def test_a_cancelled_answer_ends_at_once_and_others_go_on(start_node, robot, pictures, client, endless_checkpoint):
    start_node(model=endless_checkpoint)
    watch(robot, pictures, 8)
    robot.spin_until(client.server_is_ready, 10, "the action is there")
    long = [Stream(robot, client, "What is it?", max_new_tokens=100_000, timeout=300.0) for _ in range(2)]
    robot.spin_until(lambda: all(len(s.pieces) > 10 for s in long), 30, "both are being written")
    # The service answers while they are, and frames go on arriving.
    assert robot.result(robot.ask("What is it?", max_new_tokens=5)).success
    robot.publish(pictures[8], (START + 4) * SECOND)
    robot.publish(pictures[9], (START + 4) * SECOND + SECOND // 2)
    robot.settled(10)

    began = time.monotonic()
    robot.result(long[0].handle.cancel_goal_async())
    ended = long[0].end(30)
    assert time.monotonic() - began < 15  # the rest of it would take minutes
    assert ended.status == GoalStatus.STATUS_CANCELED
    assert not ended.result.success
    assert "cancelled" in ended.result.error
    assert ended.result.answer.startswith("".join(long[0].pieces[:10]))
    written = len(long[1].pieces)
    robot.spin_until(lambda: len(long[1].pieces) > written + 5, 30, "the other one goes on")
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].questions_active == 1, 30, "its fork is gone")
    robot.result(long[1].handle.cancel_goal_async())
    assert long[1].end(30).status == GoalStatus.STATUS_CANCELED
    status = robot.questions_settled(3)
    assert (status.questions_cancelled, status.questions_answered) == (2, 1)


KILLED = """
import sys, rclpy
from rclpy.action import ActionClient
from stream_vl_ros.action import AskStream
rclpy.init()
node = rclpy.create_node("doomed")
client = ActionClient(node, AskStream, "/stream_vl/ask_stream")
assert client.wait_for_server(30)
sent = client.send_goal_async(
    AskStream.Goal(question="What is it?", max_new_tokens=1500), lambda m: print("text", flush=True)
)
rclpy.spin_until_future_complete(node, sent)
sent.result().get_result_async()
rclpy.spin(node)
"""


def test_a_client_that_is_killed_in_mid_answer_takes_nothing_with_it(
    start_node, robot, pictures, client, ros_env, endless_checkpoint
):
    """kill -9 of two clients whose answers are being written: these end, the node goes on, and so do others."""
    node = start_node(model=endless_checkpoint)
    watch(robot, pictures, 8)
    doomed = [
        subprocess.Popen([sys.executable, "-c", KILLED], env=ros_env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in doomed:
        assert process.stdout.readline().strip() == "text", "its answer is being written"
    for process in doomed:
        process.kill()
        process.wait()
    robot.spin_until(client.server_is_ready, 10, "the action is there")
    meanwhile = Stream(robot, client, "What is it?", max_new_tokens=20).end()
    assert meanwhile.result.success
    robot.publish(pictures[8], (START + 4) * SECOND)
    robot.publish(pictures[9], (START + 4) * SECOND + SECOND // 2)
    status = robot.settled(10)
    assert robot.unaccounted(status) == 0
    counts = robot.questions_settled(3, 60)
    assert counts.questions_asked == counts.questions_answered == 3
    assert node.process.poll() is None and "Traceback" not in node.log


def test_one_too_many_is_told_when_to_come_back(start_node, robot, pictures, client, endless_checkpoint):
    start_node(model=endless_checkpoint, max_questions=1)
    watch(robot, pictures, 8)
    robot.spin_until(client.server_is_ready, 10, "the action is there")
    for known in (False, True):
        long = Stream(robot, client, "What is it?", max_new_tokens=1500)
        robot.spin_until(lambda long=long: long.pieces, 30, "it is being written")
        refused = robot.result(robot.ask("And this?"))
        assert not refused.success
        assert refused.error.startswith("busy: 1 questions are waiting or being answered and max_questions is 1; ")
        if known:
            assert refused.retry_after > 0 and "is free in about" in refused.error
        else:
            assert refused.retry_after == -1 and "nobody knows when" in refused.error
        assert long.end().result.success
    robot.spin_until(lambda: robot.answers and robot.answers[-2].retry_after > 0, 10, "listeners are told as well")
    answered = robot.result(robot.ask("And this?", max_new_tokens=5))
    assert answered.success and answered.retry_after == 0
    status = robot.questions_settled(5)
    assert dict(zip(status.refuse_reasons, status.refuse_counts, strict=True)) == {"busy": 2}
    assert status.questions_answered == 3


def test_what_cannot_be_asked_is_aborted(start_node, robot, pictures, client):
    start_node()
    robot.spin_until(client.server_is_ready, 10, "the action is there")
    early = Stream(robot, client, "What is it?").end()
    assert early.status == GoalStatus.STATUS_ABORTED
    assert "no video yet" in early.result.error
    watch(robot, pictures, 4)
    empty = Stream(robot, client, "  ").end()
    assert empty.status == GoalStatus.STATUS_ABORTED
    assert "empty" in empty.result.error
    late = Stream(robot, client, "What is it?", timeout=0.000001).end()
    assert late.status == GoalStatus.STATUS_ABORTED
    assert "timed out" in late.result.error
    chosen = Stream(robot, client, "Which?", choices=["red", "blue"])
    assert chosen.end().result.answer in ("red", "blue")
    assert "".join(chosen.pieces) in ("red", "blue", "")
    status = robot.questions_settled(4)
    assert dict(zip(status.refuse_reasons, status.refuse_counts, strict=True)) == {"no_video": 1, "bad_question": 1}
    assert (status.questions_timed_out, status.questions_answered) == (1, 1)


def test_grammars_and_dialogues(start_node, robot, pictures):
    start_node()
    watch(robot, pictures, 8)
    number = robot.result(robot.ask("How many?", regex=r"[0-9]{3}"))
    assert number.success, number.error
    assert number.answer.isdigit() and len(number.answer) == 3
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    formed = robot.result(robot.ask("How many?", json_schema=json.dumps(schema), max_new_tokens=60))
    assert formed.success, formed.error
    assert json.loads(formed.answer)["n"] in (1, 2)
    half = robot.result(robot.ask("How many?", json_schema=json.dumps(schema), max_new_tokens=1))
    assert not half.success and half.answer == "{" and "cut off after 1 tokens" in half.error, half
    both = robot.result(robot.ask("How many?", regex="a", json_schema="{}"))
    assert not both.success
    broken = robot.result(robot.ask("How many?", regex="("))
    assert not broken.success and "regex" in broken.error

    alone = robot.result(robot.ask("And then?", max_new_tokens=8))
    first = robot.result(robot.ask("What is it?", max_new_tokens=8, dialogue="a"))
    second = robot.result(robot.ask("And then?", max_new_tokens=8, dialogue="a"))
    other = robot.result(robot.ask("And then?", max_new_tokens=8, dialogue="b"))
    assert first.success and second.success
    assert other.answer == alone.answer
    assert second.answer != alone.answer
    robot.spin_until(lambda: robot.answers and robot.answers[-1].dialogue == "b", 10, "its dialogue is published")
