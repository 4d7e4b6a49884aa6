"""Several topics at once, and parts of a recording; the replay is one process, a subscriber another."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_vl_ros.bag.reader import BagReader

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

ORIGIN = 1_700_000_000_000_000_000
PERIOD = 50_000_000
TOPIC = "/camera/image_raw"
LEFT = [ORIGIN + i * PERIOD for i in range(40)]
RIGHT = [ORIGIN + 20_000_000 + i * 2 * PERIOD for i in range(20)]
MakeBag = Callable[..., Path]
Watching = Callable[..., AbstractContextManager[Any]]
Replay = Callable[..., tuple[list[dict[str, Any]], "subprocess.CompletedProcess[str]"]]


def digests(bag: Path, topic: str) -> list[str]:
    with BagReader(bag) as reader:
        it = reader.image_topic(topic)
        messages = [reader.decode(it, m) for m in reader.messages(it)]
    return [hashlib.sha256(m.data.tobytes()).hexdigest() for m in messages]  # type: ignore[attr-defined]


def on(topic: str, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [image for image in images if image["topic"] == topic]


def delay(images: list[dict[str, Any]]) -> float:
    """Median seconds from an image's stamp to its arrival, on a common but arbitrary scale."""
    return float(np.median([image["arrived"] - (image["stamp"] - ORIGIN) for image in images])) / 1e9


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_all_topics_with_their_relative_timing(
    make_cameras: MakeBag, watching: Watching, replay: Replay, storage: str
) -> None:
    bag = make_cameras(storage)
    with watching("/left", "/right=CompressedImage") as watcher:
        events, done = replay(bag, "--all-topics")
        images = watcher.settle(60)
    assert done.returncode == 0, done.stderr
    left, right = on("/left", images), on("/right", images)
    assert [i["stamp"] for i in left] == LEFT and [i["stamp"] for i in right] == RIGHT
    # Compressed images are published as they are.
    assert [i["digest"] for i in left] == digests(bag, "/left")
    assert [i["digest"] for i in right] == digests(bag, "/right")
    assert {i["encoding"] for i in left} == {"rgb8"} and {i["encoding"] for i in right} == {"png"}
    assert abs(delay(left) - delay(right)) < 0.015
    assert (right[-1]["arrived"] - left[0]["arrived"]) / 1e9 == pytest.approx(1.92, rel=0.15)
    started = next(e for e in events if e["event"] == "started")
    assert started["topics"] == {"/left": 40, "/right": 20} and started["images"] == 60
    assert (started["start"], started["until"]) == pytest.approx((0.0, 1.95))
    sent = [e for e in events if e["event"] == "sent"]
    assert [e["number"] for e in sent] == list(range(1, 61))
    assert sorted((e["stamp"], e["topic"]) for e in sent) == [(e["stamp"], e["topic"]) for e in sent]
    assert events[-1]["published"] == 60 and events[-1]["topics"] == {"/left": 40, "/right": 20}
    assert events[-1]["acknowledged"]


def test_chosen_topics_under_other_names(make_cameras: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching("/a=CompressedImage", "/b") as watcher:
        command = ["--topic", "/right", "--topic", "left", "--to", "/a", "--to", "/b", "--rate", "2"]
        events, done = replay(make_cameras(), *command)
        images = watcher.settle(60)
    assert done.returncode == 0, done.stderr
    assert [i["stamp"] for i in on("/a", images)] == RIGHT and [i["stamp"] for i in on("/b", images)] == LEFT
    assert events[-1]["topics"] == {"/a": 20, "/b": 40}


def test_one_topic_of_several_leaves_the_others_out(make_cameras: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching("/left", "/right=CompressedImage") as watcher:
        _, done = replay(make_cameras(), "--topic", "/right", "--rate", "4")
        images = watcher.settle(20)
    assert done.returncode == 0, done.stderr
    assert [i["stamp"] for i in images] == RIGHT


def test_every_topic_needs_its_subscriber(make_cameras: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching("/left"):
        _, done = replay(make_cameras(), "--all-topics", "--wait-timeout", "5")
    assert done.returncode == 1
    assert "0 of 1 subscribers found on /right after 5 s" in done.stderr


def test_several_topics_and_no_choice(make_cameras: MakeBag, replay: Replay) -> None:
    _, done = replay(make_cameras(), wait=False)
    assert done.returncode == 1
    assert "2 image topics: /left" in done.stderr and "--all-topics" in done.stderr


def test_start_and_duration(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching() as watcher:
        events, done = replay(make_bag("mcap", 60), "--start", "0.5", "--duration", "1")
        images = watcher.settle(20)
    assert done.returncode == 0, done.stderr
    assert [i["stamp"] for i in images] == [ORIGIN + i * PERIOD for i in range(10, 30)]
    started = next(e for e in events if e["event"] == "started")
    assert (started["start"], started["until"]) == pytest.approx((0.5, 1.5))
    assert events[-1]["published"] == 20


def test_a_duration_beyond_the_end_is_the_end(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching() as watcher:
        events, done = replay(make_bag("sqlite3", 10), "--duration", "1000", "--rate", "4")
        images = watcher.settle(10)
    assert done.returncode == 0, done.stderr
    assert len(images) == 10
    assert next(e for e in events if e["event"] == "started")["until"] == pytest.approx(0.45)


def test_summary_in_words(make_cameras: MakeBag, ros_env: dict[str, str]) -> None:

    command = [sys.executable, "-m", "stream_vl_ros.bag.replay", str(make_cameras()), "--all-topics", "--rate", "10"]
    done = subprocess.run(
        [*command, "--start", "1"], env=ros_env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "replaying 1.0 to 1.9 s of 60 recorded images on /left and /right" in done.stderr
    assert "done: 30 images sent (20 on /left, 10 on /right), on time" in done.stderr
