"""The recording's time on /clock, and what a loop does to it; the replay is one process, a subscriber another."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.alone

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

ORIGIN = 1_700_000_000_000_000_000
PERIOD = 50_000_000
# Bags are recorded so much later than their images were taken.
DELAY = 7_000_000
TOPIC = "/camera/image_raw"
MakeBag = Callable[..., Path]
Watching = Callable[..., AbstractContextManager[Any]]
Replay = Callable[..., tuple[list[dict[str, Any]], "subprocess.CompletedProcess[str]"]]
Env = dict[str, str]


def running(ticks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without those from before the start, when time stands."""
    return list(itertools.dropwhile(lambda tick: tick["time"] <= ORIGIN + DELAY, ticks))


def speed(ticks: list[dict[str, Any]]) -> float:
    """Recorded seconds per real second."""
    arrived = np.array([tick["arrived"] for tick in ticks], np.float64)
    times = np.array([tick["time"] - ORIGIN for tick in ticks], np.float64)
    return float(np.polyfit(arrived - arrived[0], times, 1)[0])


def offsets(ticks: list[dict[str, Any]], images: list[dict[str, Any]]) -> list[float]:
    """Seconds from when each image was recorded to the time on the clock at its arrival, if there was one."""
    found = []
    for image in images:
        before = [tick for tick in ticks if tick["arrived"] <= image["arrived"]]
        found += [(before[-1]["time"] - image["stamp"] - DELAY) / 1e9] if before else []
    return found


@pytest.mark.parametrize(("rate", "clock", "hz"), [(1.0, ["--clock"], 40), (2.0, ["--clock", "100"], 100)])
def test_time_runs_with_the_images(
    make_bag: MakeBag, watching: Watching, replay: Replay, rate: float, clock: list[str], hz: float
) -> None:
    with watching(TOPIC, "/clock=Clock") as watcher:
        _, done = replay(make_bag("mcap", 60), "--rate", rate, "--start", "1", *clock)
        images = watcher.settle(40)
        ticks = list(watcher.ticks)
    assert done.returncode == 0, done.stderr
    begin = ORIGIN + DELAY + 20 * PERIOD
    times = [tick["time"] for tick in ticks]
    assert times == sorted(times)
    # From the first image to the last; the clock may find its subscriber a little later than the images do.
    assert begin <= times[0] < begin + 0.3e9 * rate
    moving = [tick for tick in ticks if tick["time"] > begin]
    assert times[-1] == pytest.approx(ORIGIN + DELAY + 59 * PERIOD, abs=2.5e9 * rate / hz)
    # Wide enough for a machine that does other things as well, narrow enough for a rate that is left out.
    assert speed(moving) == pytest.approx(rate, rel=0.25)
    assert len(moving) == pytest.approx(39 * 0.05 / rate * hz, rel=0.4)
    assert [image["stamp"] for image in images] == [ORIGIN + i * PERIOD for i in range(20, 60)]
    # An image never arrives long before its time, or long after.
    assert np.abs(np.median(offsets(ticks, images))) < 0.05 * rate
    assert max(map(abs, offsets(ticks, images))) < 1.0 * rate


def test_time_stands_until_the_subscribers_are_there(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching("/clock=Clock") as watcher:
        _, done = replay(make_bag("mcap", 60), "--start", "1", "--clock", "--wait-timeout", "6")
        assert done.returncode == 1 and "0 of 1 subscribers" in done.stderr
        assert len(watcher.ticks) > 5  # of 240, less those before the clock and its subscriber found each other
        assert {tick["time"] for tick in watcher.ticks} == {ORIGIN + DELAY + 20 * PERIOD}


def loop(env: Env, watcher: Any, *args: str | Path, until: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images and ticks of a loop that is interrupted after some images."""
    command = [sys.executable, "-m", "stream_vl_ros.bag.replay", *map(str, args)]
    command += ["--loop", "--wait-for-subscribers", "1", "--progress-json"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watcher.settle(until)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0 and "Traceback" not in err, err
    assert json.loads(out.splitlines()[-1])["stopped"] is True
    return list(watcher.images), running(watcher.ticks)


def test_a_loop_that_grows_never_goes_back(make_bag: MakeBag, watching: Watching, ros_env: Env) -> None:
    with watching(TOPIC, "/clock=Clock") as watcher:
        images, ticks = loop(ros_env, watcher, make_bag("mcap", 10), "--clock", until=35)
    stamps = [image["stamp"] for image in images]
    assert stamps == [ORIGIN + i * PERIOD for i in range(len(stamps))]
    times = [tick["time"] for tick in ticks]
    assert times == sorted(times) and times[-1] - times[0] > 30 * PERIOD
    assert speed(ticks) == pytest.approx(1.0, rel=0.25)


def test_a_loop_that_repeats_jumps_back(make_bag: MakeBag, watching: Watching, ros_env: Env) -> None:
    # Half a second a round.
    with watching(TOPIC, "/clock=Clock") as watcher:
        images, ticks = loop(
            ros_env, watcher, make_bag("sqlite3", 10), "--clock", "50", "--loop-stamps", "repeat", until=35
        )
    assert [image["stamp"] for image in images] == [ORIGIN + i % 10 * PERIOD for i in range(len(images))]
    assert [image["digest"] for image in images[:10]] == [image["digest"] for image in images[20:30]]
    times = np.array([tick["time"] - ORIGIN - DELAY for tick in ticks])
    jumps = np.flatnonzero(np.diff(times) < 0)
    # The clock goes back as often as the images do, from the end to the beginning, and never otherwise.
    assert len(jumps) == (len(images) - 1) // 10
    assert (times[jumps] > 9 * PERIOD).all() and (times[jumps] < 12 * PERIOD).all()
    assert (times[jumps + 1] < 2 * PERIOD).all()
    for first, last in zip(np.r_[0, jumps + 1], np.r_[jumps, len(ticks) - 1], strict=True):
        if last - first > 15:
            assert speed(ticks[first : last + 1]) == pytest.approx(1.0, rel=0.3)
    # The first images of the rounds come when the clock says so.
    assert max(map(abs, offsets(ticks, images[10:30:10]))) < 0.4


def test_no_clock_unless_asked_for(make_bag: MakeBag, watching: Watching, replay: Replay) -> None:
    with watching(TOPIC, "/clock=Clock") as watcher:
        replay(make_bag("mcap", 5))
        watcher.settle(5)
        assert not watcher.ticks
