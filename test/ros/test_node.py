"""The node as other processes see it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.engine import StreamConfig, VideoStream, load_model

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def stamp(i: int, fps: int = 4) -> int:
    return START + i * SECOND // fps


def publish(robot, pictures, first: int = 0, pause: float = 0.0) -> None:
    for i, picture in enumerate(pictures, first):
        robot.publish(picture, stamp(i))
        if pause:
            time.sleep(pause)


def engine_answer(pictures: np.ndarray, question: str, tokens: int):
    """What the engine says about exactly these frames, without ROS."""
    stream = VideoStream(load_model("random", device="cpu"), StreamConfig(target_fps=0))
    stream.append(pictures, [i / 4 for i in range(len(pictures))])
    return stream.ask(question, max_new_tokens=tokens)


def test_every_frame_of_the_bag_is_accounted_for(start_node, robot, ros_env, demo_bag):
    start_node(target_fps=2, fresh=True)
    replay = subprocess.run(
        [
            sys.executable,
            "-m",
            "stream_vl_ros.bag.replay",
            str(demo_bag),
            "--to",
            robot.topic,
            "--wait-for-subscribers",
            "1",
            "--rate",
            "8",
            "--progress-json",
        ],
        env=ros_env,
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    events = [json.loads(line) for line in replay.stdout.splitlines()]
    published = max(e.get("published", 0) for e in events)
    status = robot.settled(published, waiting=1)
    assert published > 50
    assert status.frames_received == published
    assert robot.unaccounted(status) == 0 and status.frames_dropped == 0
    assert status.frames_ingested + status.frames_waiting == pytest.approx(published / 2, abs=1)  # 4 Hz, kept at 2


def test_a_question_is_answered_from_exactly_the_frames_up_to_its_stamp(
    start_node, robot, pictures, endless_checkpoint
):
    """Asked while frames wait for their chunk, and again while more of them arrive: both get the native answer."""
    # Up to 31 frames no token of its answers is a close call, and none a NUL, where a ROS string would end.
    question, tokens, total = "Who?", 100, 32
    start_node(model=endless_checkpoint, chunk_frames=8, flush_after=60)
    publish(robot, pictures[:13])
    robot.settled(13, waiting=5)
    still = robot.result(robot.ask(question, max_new_tokens=tokens))
    publish(robot, pictures[13:18], 13)
    asked = robot.ask(question, max_new_tokens=tokens)
    meanwhile = 0
    for i in range(18, total):
        robot.publish(pictures[i], stamp(i))
        robot.executor.spin_once(timeout_sec=0.005)
        if not asked.done():
            meanwhile = i + 1
    moving = robot.result(asked)

    assert still.frames_seen == 13
    assert 13 <= moving.frames_seen < meanwhile, "more frames were published before the answer was complete"
    native = NativeModel(str(endless_checkpoint))
    prompt = native.prompt([user_turn(question)])
    for response in (still, moving):
        assert response.success, response.error
        k = response.frames_seen
        assert (response.first_stamp.sec, response.first_stamp.nanosec) == (START // SECOND, 0)
        assert response.last_stamp.sec * SECOND + response.last_stamp.nanosec == stamp(k - 1)
        expected = native.generate(native.inputs(prompt, [pictures[:k]], 4.0), tokens, text_base="trained")
        assert response.answer == expected.text
        assert response.answer_tokens == len(expected.token_ids) == tokens
        assert response.cache_tokens > 0 and response.cache_bytes > 0
        assert 0 < response.ttft <= response.total_time

    status = robot.settled(total)
    assert status.frames_received == status.frames_ingested == total
    assert robot.unaccounted(status) == 0 and status.frames_dropped == 0


def test_a_question_does_not_overtake_images_that_are_already_here(start_node, robot, pictures):
    """The node is held up; images and then a question arrive meanwhile: the question sees all of them.

    DDS keeps no order between topics: now and then the request itself is delivered before the images.
    """
    node = start_node()
    publish(robot, pictures[:4])
    robot.settled(4)
    seen = []
    for first in (4, 14, 24):
        node.process.send_signal(signal.SIGSTOP)
        publish(robot, pictures[first : first + 10], first)
        robot.spin_for(0.5)
        asked = robot.ask("What is it?", max_new_tokens=3)
        robot.spin_for(0.5)
        node.process.send_signal(signal.SIGCONT)
        seen.append(robot.result(asked).frames_seen - first)
        robot.settled(first + 10)
    assert seen.count(10) >= 2, seen


def test_answers_do_not_hold_up_the_frames(start_node, robot, pictures, endless_checkpoint):
    """As many frames are ingested while answers are written as without; nothing is lost."""
    ingested = []
    for questions in (0, 3):
        node = start_node(model=endless_checkpoint)
        publish(robot, pictures[:8])
        robot.settled(8)
        asked = [robot.ask("What is it?", max_new_tokens=2000, timeout=120.0) for _ in range(questions)]
        robot.spin_until(lambda n=questions: robot.statuses[-1].questions_active == n, 30, "the questions have arrived")
        publish(robot, pictures[8:], 8, pause=0.02)
        status = robot.settled(64)
        assert not any(future.done() for future in asked), "all frames are in before the first answer is complete"
        assert robot.unaccounted(status) == 0 and status.frames_dropped == 0
        ingested.append(status.frames_ingested)
        for future in asked:
            response = robot.result(future, 120)
            assert response.success and response.answer_tokens == 2000
            assert response.frames_seen == 8
        assert node.stop() == 0
    assert ingested == [64, 64]


def test_a_caller_that_dies_takes_nothing_with_it(start_node, robot, pictures, ros_env, endless_checkpoint):
    start_node(model=endless_checkpoint)
    publish(robot, pictures[:8])
    robot.settled(8)
    client = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("client.py")), "What?", "2000"], env=ros_env
    )
    robot.spin_until(
        lambda: robot.statuses and robot.statuses[-1].questions_active == 1, 30, "the question is being answered"
    )
    client.kill()
    client.wait()
    robot.spin_until(
        lambda: robot.statuses and robot.statuses[-1].questions_active == 0, 90, "its answer comes to an end"
    )
    assert robot.result(robot.ask("What is it?", max_new_tokens=5)).success


def test_ctrl_c_while_loading_ends_the_node_at_once(start_node, robot):
    node = start_node(ready=False, fresh=True)
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "loading", 30, "the node is loading")
    refused = robot.result(robot.ask("What is it?"))
    assert not refused.success and "not ready: loading" in refused.error
    started = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - started < 4


def test_the_cache_is_bit_identical_before_and_after_a_question(start_node, robot, pictures):
    start_node(publish_signature=True)
    publish(robot, pictures[:16])
    robot.settled(16)

    def stable() -> str:
        robot.statuses.clear()
        robot.spin_until(lambda: len(robot.statuses) >= 3, 10, "three statuses")
        assert robot.statuses[-1].cache_signature == robot.statuses[-2].cache_signature
        return robot.statuses[-1].cache_signature

    before = stable()
    assert len(before) == 64
    assert robot.result(robot.ask("What is it?", max_new_tokens=50)).success
    assert robot.result(robot.ask("Which?", choices=["red", "blue"])).success
    assert stable() == before
    publish(robot, pictures[16:20], 16)
    robot.settled(20)
    assert stable() != before


def test_two_clients_at_once_get_their_own_answers(start_node, robot, pictures, ros_env):
    start_node()
    publish(robot, pictures[:16])
    robot.settled(16)
    questions = ["What is it?", "Which colour has the square?"]
    client = Path(__file__).with_name("client.py")
    clients = [
        subprocess.Popen([sys.executable, str(client), q, "40"], env=ros_env, stdout=subprocess.PIPE, text=True)
        for q in questions
    ]
    answers = [json.loads(c.communicate(timeout=60)[0]) for c in clients]
    for question, answer in zip(questions, answers, strict=True):
        assert answer["success"], answer
        assert answer["answer"] == engine_answer(pictures[:16], question, 40).text
    robot.spin_until(lambda: len(robot.answers) == 2, 10, "both answers are published")
    assert {a.question for a in robot.answers} == set(questions)
    assert sorted(a.id for a in robot.answers) == [1, 2]
    assert all(a.header.frame_id == "test_camera" and a.success for a in robot.answers)


def test_choices_remember_and_refusals(start_node, robot, pictures):
    start_node()
    empty = robot.result(robot.ask("What is it?"))
    assert not empty.success and "not one frame" in empty.error
    publish(robot, pictures[:8])
    robot.settled(8)
    chosen = robot.result(robot.ask("Which?", choices=["red", "a blue square"]))
    assert chosen.success and chosen.answer in ("red", "a blue square") and len(chosen.scores) == 2
    assert chosen.scores[["red", "a blue square"].index(chosen.answer)] == max(chosen.scores)
    for bad, reason in [
        ({"question": "  "}, "empty"),
        ({"question": "Which?", "choices": ["red"]}, "at least two"),
        ({"question": "Which?", "timeout": -1.0}, "timeout=-1.0"),
        ({"question": "Which?", "timeout": float("nan")}, "timeout=nan"),
    ]:
        refused = robot.result(robot.ask(**bad))
        assert not refused.success and reason in refused.error and not refused.answer
    late = robot.result(robot.ask("What is it?", max_new_tokens=100_000, timeout=0.3))
    assert (late.success and late.answer) or "timed out" in late.error
    before = robot.statuses[-1].cache_tokens
    remembered = robot.result(robot.ask("What is it?", max_new_tokens=5, remember=True))
    assert remembered.success and remembered.remembered
    followed = robot.result(robot.ask("And now?", max_new_tokens=5))
    assert followed.success and not followed.remembered and followed.frames_seen == 8, followed.error
    robot.spin_until(
        lambda: robot.statuses and robot.statuses[-1].cache_tokens > before, 10, "the turn is in the cache"
    )
    publish(robot, pictures[8:12], 8)
    status = robot.settled(12)
    assert robot.unaccounted(status) == 0
    robot.spin_until(lambda: any(a.remembered for a in robot.answers), 10, "the turn is published as remembered")
    counts = robot.statuses[-1]
    assert robot.unaccounted_questions(counts) == 0


def test_bad_images_are_counted_logged_once_and_change_nothing(start_node, robot, pictures):
    node = start_node()
    publish(robot, pictures[:4])
    robot.settled(4)
    for _ in range(3):
        robot.publish(pictures[4], stamp(4), encoding="nv42_strange")
        robot.publish(pictures[4], stamp(4), data=b"\x01" * 100)
        robot.publish(pictures[4], stamp(4), step=7)
        robot.publish(np.zeros((0, 80, 3), np.uint8), stamp(4))
        robot.publish(pictures[4], stamp(1))
        robot.publish(pictures[4], 0, header=Header(stamp=Time(sec=-5, nanosec=0)))
    status = robot.settled(22)
    drops = dict(zip(status.drop_reasons, status.drop_counts, strict=True))
    reasons = "unknown_encoding", "short_data", "bad_step", "zero_size", "stamp_backwards", "bad_stamp"
    assert drops == dict.fromkeys(reasons, 3)
    assert (status.frames_ingested, status.frames_dropped, robot.unaccounted(status)) == (4, 18, 0)
    publish(robot, pictures[4:8], 4)
    assert robot.settled(26).frames_ingested == 8
    assert (
        robot.result(robot.ask("What is it?", max_new_tokens=10)).answer
        == engine_answer(pictures[:8], "What is it?", 10).text
    )
    for value, hint in [
        ("'nv42_strange'", "rgb8"),
        ("100 bytes", "cut off"),
        ("step 7", "contradicts"),
        ("80x0", "empty"),
        ("1700000000.25", "jump_back"),
        ("-5 s", "camera driver"),
    ]:
        lines = [line for line in node.log.splitlines() if value in line]
        assert len(lines) == 1 and hint in lines[0], (value, node.log)


def test_a_topic_that_never_comes_is_said_once_with_a_hint(start_node, robot):
    node = start_node(ready=False, image_topic="/nowhere/image", image_timeout=1.5)
    robot.spin_until(
        lambda: robot.statuses and "no image on /nowhere/image" in robot.statuses[-1].message, 40, "a hint"
    )
    time.sleep(1.0)
    lines = [line for line in node.log.splitlines() if "no image on" in line]
    # Once more where the topics that there are turned out to be others: the robot's may be heard of late.
    topics = [line.partition("nobody publishes it")[2] for line in lines]
    assert 1 <= len(lines) == len(set(topics)) <= 2 and all("image_topic" in said for said in topics)


def test_silence_is_noticed_on_simulated_time_that_stands_still(start_node, robot):
    start_node(ready=False, use_sim_time=True, image_timeout=1.5)
    robot.spin_until(lambda: robot.statuses and "no image on" in robot.statuses[-1].message, 40, "a hint")
    robot.statuses.clear()
    robot.spin_until(lambda: len(robot.statuses) >= 2, 10, "the status goes on")


def test_an_unknown_model_is_said_and_questions_are_refused(start_node, robot):
    node = start_node(ready=False, model="/no/such/folder")
    robot.spin_until(lambda: robot.statuses and robot.statuses[-1].state == "error", 40, "the node reports an error")
    assert "/no/such/folder" in robot.statuses[-1].message
    refused = robot.result(robot.ask("What is it?"))
    assert not refused.success and "/no/such/folder" in refused.error
    assert sum("/no/such/folder" in line and "ERROR" in line for line in node.log.splitlines()) == 1
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_topic", "bad topic!"),
        ("chunk_frames", 0),
        ("dtype", "int3"),
        ("target_fps", -1.0),
        ("model", 3),
        ("qos_depth", 1.5),
        ("eviction", "window"),
    ],
)
def test_a_parameter_that_cannot_work_is_refused(start_node, name, value):
    node = start_node(ready=False, **{name: value})
    assert node.process.wait(40) == 2
    assert name in node.log and "Traceback" not in node.log


def test_reset_forgets_the_video(start_node, robot, pictures):
    start_node()
    publish(robot, pictures[:8])
    robot.settled(8)
    from std_srvs.srv import Trigger

    assert robot.result(robot.reset_client.call_async(Trigger.Request())).success
    publish(robot, pictures[:5])  # the same stamps again
    assert robot.settled(13, waiting=1).frames_dropped == 0
    assert robot.result(robot.ask("What is it?", max_new_tokens=3)).frames_seen == 5


@pytest.mark.parametrize("rule", ["window", "importance"])
def test_a_budget_is_kept_and_what_was_forgotten_is_told(start_node, robot, pictures, rule):
    start_node(eviction=rule, budget_tokens=100)
    publish(robot, pictures, pause=0.02)
    status = robot.settled(64)
    assert status.frames_dropped == 0 and status.frames_ingested == 64
    assert 0 < status.cache_tokens <= 100
    assert status.evicted_tokens > 64
    if rule == "window":
        assert status.evicted_frames > 32
        oldest = status.first_stamp.sec * SECOND + status.first_stamp.nanosec
        assert oldest == stamp(status.evicted_frames)
    reply = robot.result(robot.ask("What is it?", max_new_tokens=3))
    assert reply.success and reply.frames_seen == 64 - status.evicted_frames


def test_real_footage(start_node, robot, ros_env, footage, tmp_path):
    """A street scene, turned into a bag, replayed, watched, asked about."""
    bag = tmp_path / "street"
    command = [
        "stream_vl_ros.bag.video_to_bag",
        str(footage("vtest")),
        "--out",
        str(bag),
        "--duration",
        "6",
        "--fps",
        "5",
    ]
    subprocess.run([sys.executable, "-m", *command], env=ros_env, check=True, capture_output=True, timeout=90)
    start_node(target_fps=2.0)
    replay = [
        "stream_vl_ros.bag.replay",
        str(bag),
        "--to",
        robot.topic,
        "--wait-for-subscribers",
        "1",
        "--rate",
        "3",
        "--progress-json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *replay], env=ros_env, check=True, capture_output=True, text=True, timeout=90
    )
    published = max(json.loads(line).get("published", 0) for line in done.stdout.splitlines())
    status = robot.settled(published, waiting=1)
    assert published == 30 and status.frames_received == 30
    assert robot.unaccounted(status) == 0 and status.frames_dropped == 0
    assert status.frames_ingested + status.frames_waiting == 12
    response = robot.result(robot.ask("What is visible now?", max_new_tokens=8))
    assert response.success and response.frames_seen == 12
