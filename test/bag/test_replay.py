"""Bags over real DDS: the replay is one process, a plain subscriber another."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

ORIGIN = 1_700_000_000_000_000_000
PERIOD = 50_000_000
TOPIC = "/camera/image_raw"
MakeBag = Callable[..., Path]
Watching = Callable[..., AbstractContextManager[Any]]
Replay = Callable[..., tuple[list[dict[str, Any]], "subprocess.CompletedProcess[str]"]]
Env = dict[str, str]


def replay_command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "stream_vl_ros.bag.replay", *map(str, args)]


def _digests(count: int) -> list[str]:
    pictures = (np.random.RandomState(i).randint(0, 256, (120, 160, 3)).astype(np.uint8) for i in range(count))
    return [hashlib.sha256(p.tobytes()).hexdigest() for p in pictures]


def _span(images: list[dict[str, Any]]) -> float:
    return (images[-1]["arrived"] - images[0]["arrived"]) / 1e9


def test_every_image_once_unchanged_and_in_time(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching() as watcher:
        events, done = replay(make_bag("mcap", 40))
        images = watcher.settle(40)
    assert done.returncode == 0, done.stderr
    assert [i["stamp"] for i in images] == [ORIGIN + i * PERIOD for i in range(40)]
    assert [i["digest"] for i in images] == _digests(40)
    assert {i["encoding"] for i in images} == {"rgb8"}
    assert _span(images) / (39 * 0.05) == pytest.approx(1.0, rel=0.15)
    assert events[-1]["event"] == "finished" and events[-1]["published"] == 40 and events[-1]["acknowledged"]
    sent = [e for e in events if e["event"] == "sent"]
    assert [e["number"] for e in sent] == list(range(1, 41))
    assert [e["position"] for e in sent] == pytest.approx([i * 0.05 for i in range(40)])


def test_best_effort(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching(reliability="best_effort") as watcher:
        events, done = replay(make_bag("mcap", 40), "--best-effort")
        images = watcher.settle(40, seconds=2)
    assert done.returncode == 0, done.stderr
    assert events[-1]["published"] == 40
    # Losing some is allowed here; altering, repeating and reordering is not.
    numbers = [(i["stamp"] - ORIGIN) // PERIOD for i in images]
    assert len(numbers) >= 30 and numbers == sorted(set(numbers))
    digests = _digests(40)
    assert [i["digest"] for i in images] == [digests[n] for n in numbers]


def test_rate_start_and_remapping(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching("/elsewhere") as watcher:
        _, done = replay(make_bag("sqlite3", 60), "--to", "/elsewhere", "--rate", "2", "--start", "1")
        images = watcher.settle(40)
    assert done.returncode == 0, done.stderr
    assert [i["stamp"] for i in images] == [ORIGIN + i * PERIOD for i in range(20, 60)]
    assert _span(images) / (39 * 0.05) == pytest.approx(0.5, rel=0.15)


def test_a_slow_subscriber_gets_all_with_a_small_depth(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching(delay=0.01) as watcher:
        events, done = replay(make_bag("mcap", 100), "--rate", "1000", "--depth", "5")
        images = watcher.settle(100)
    assert done.returncode == 0, done.stderr
    assert [i["stamp"] for i in images] == [ORIGIN + i * PERIOD for i in range(100)]
    assert events[-1]["acknowledged"]


def test_stamps_now(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    before = time.time_ns()
    with watching() as watcher:
        replay(make_bag("mcap", 10), "--stamps", "now")
        images = watcher.settle(10)
    stamps = [i["stamp"] for i in images]
    assert len(stamps) == 10 and stamps == sorted(stamps) and before < stamps[0] and stamps[-1] < time.time_ns()
    assert [i["digest"] for i in images] == _digests(10)


def test_loop_goes_on_in_time_until_interrupted(make_bag: MakeBag, watching: Watching, ros_env: Env) -> None:
    with watching() as watcher:
        command = replay_command(make_bag("mcap", 10), "--loop", "--wait-for-subscribers", "1", "--progress-json")
        process = subprocess.Popen(command, env=ros_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watcher.settle(25)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        images = list(watcher.images)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert json.loads(out.splitlines()[-1])["stopped"] is True
    assert [i["stamp"] for i in images] == [ORIGIN + i * PERIOD for i in range(len(images))]
    assert [i["digest"] for i in images[10:20]] == _digests(10)
    assert _span(images) / ((len(images) - 1) * 0.05) == pytest.approx(1.0, rel=0.15)


def test_says_when_it_cannot_keep_up(make_bag: MakeBag, watching: Watching, ros_env: Env) -> None:
    # A hundred pictures of 600 KB within 5 ms, to be confirmed two by two.
    bag = make_bag("mcap", 100, side=440)
    with watching():
        command = replay_command(bag, "--rate", "1000", "--depth", "2", "--wait-for-subscribers", "1")
        done = subprocess.run(command, env=ros_env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "of 100 images more than 100 ms late" in done.stderr and "--rate" in done.stderr


def test_no_subscriber_comes(make_bag: MakeBag, replay: Replay) -> None:
    events, done = replay(make_bag("mcap", 3), "--wait-timeout", "0.5")
    assert done.returncode == 1
    assert f"0 of 1 subscribers found on {TOPIC} after 0.5 s" in done.stderr
    assert {e["event"] for e in events} == {"waiting"}


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--topic", "/none"], "has no topic '/none'"),
        (["--topic", TOPIC, "--topic", TOPIC], "--topic /camera/image_raw is given 2 times"),
        (["--start", "99"], "start is 99.0 s"),
        (["--rate", "0"], "rate is 0.0"),
        (["--rate", "inf"], "rate is inf"),
        (["--duration", "0"], "duration is 0.0; it must be above 0"),
        (["--start", "0.06", "--duration", "0.01"], "no image from 0.06 s to 0.07 s"),
        (["--clock", "5000"], "clock is 5000.0; it must be a frequency of up to 1000 Hz"),
        (["--clock", "--stamps", "now"], "clock publishes the recording's time. Leave one of them out"),
        (["--loop", "--loop-stamps", "repeat", "--stamps", "now"], "loop_stamps 'repeat' keeps"),
        (["--to", "/a", "--to", "/b"], "--to names 2 topics but 1 are replayed (/camera/image_raw)"),
        (["--to", "/a b"], "Cannot publish on '/a b': Invalid topic name"),
    ],
)
def test_bad_arguments(make_bag: MakeBag, replay: Replay, args: list[str], reason: str) -> None:
    _, done = replay(make_bag("mcap", 3), *args, wait=False)
    assert done.returncode == 1
    assert done.stderr.startswith("replay: ") and reason in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--clock", "BAG"], "'BAG' is not a frequency; write --clock 40, or BAG in front of --clock"),
        (["BAG", "--clock", "0"], "'0' must be above 0 Hz; leave --clock out"),
        (["BAG", "--topic", "/a", "--all-topics"], "not allowed with argument --topic"),
    ],
)
def test_usage(replay: Replay, args: list[str], reason: str) -> None:
    _, done = replay(*args, wait=False)
    assert done.returncode == 2
    assert reason in done.stderr


def test_real_footage(footage: Callable[[str], Path], tmp_path: Path, watching: Watching, replay: Replay) -> None:
    from stream_vl_ros.bag.video_to_bag import main as video_to_bag

    bag = tmp_path / "street"
    assert video_to_bag([str(footage("vtest")), "--out", str(bag), "--duration", "2"]) == 0
    # 1.3 MB a picture: several times the default shared-memory segment of DDS.
    with watching() as watcher:
        events, done = replay(bag)
        images = watcher.settle(20)
    assert done.returncode == 0, done.stderr
    assert [i["stamp"] for i in images] == [ORIGIN + i * 100_000_000 for i in range(20)]
    assert _span(images) / 1.9 == pytest.approx(1.0, rel=0.15)
    assert events[-1]["published"] == 20


def test_a_video_file_is_replayed_as_it_is(footage, watching, replay):
    with watching("/street") as watcher:
        events, done = replay(footage("carphone"), "--to", "/street", "--duration", "1.5")
        assert done.returncode == 0, done.stderr
        images = watcher.settle(events[-1]["published"])
    # 30 frames a second are too many.
    assert len(images) == events[-1]["published"] in (22, 23)
    stamps = [event["stamp"] for event in events if event["event"] == "sent"]
    assert abs(stamps[0] - time.time_ns()) < 120e9
    assert np.diff(stamps).mean() == pytest.approx(1e9 / 15, rel=0.03)


def test_a_video_file_that_is_none(tmp_path, replay):
    (tmp_path / "street.mp4").write_bytes(b"no video")
    _, done = replay(tmp_path / "street.mp4", wait=False)
    assert done.returncode == 1
    assert "cannot be opened as a video" in done.stderr and "Traceback" not in done.stderr
