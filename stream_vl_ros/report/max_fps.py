"""The highest frame rate whose queue stays bounded, with and without questions.

The protocol of StreamingEval (arXiv 2603.21493): frames arrive by the clock whether or not the engine is ready, and a
rate is sustained if no backlog is left to build up.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_vl_ros.bench.eviction_runs import full_cache
from stream_vl_ros.engine import EngineRunner, Question, RunnerConfig, VideoStream
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.results import Point, Section

ASKED = 4
# Chunks that may be under way when the last frame has come: one filling up, one being encoded.
BACKLOG_CHUNKS = 2
_QUEUE = 4096
_HELD = 64  # frames that the budget is for
_STEPS = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of frames that came at a rate.

    Attributes:
        rate: frames per second that were really offered.
        backlog: frames not yet in the cache when the last one had come.
        dropped: frames lost.
        answers: questions answered meanwhile, per second.
        sustained: whether the queue stayed bounded, and whoever asked was answered.
    """

    rate: float
    backlog: int
    dropped: int
    answers: float
    sustained: bool


def max_fps(bench: Bench) -> Section:
    section = Section(
        "max fps",
        "Highest frame rate without backlog",
        "frames per second offered",
        f"Frames arrive by the clock for {bench.plan.seconds:g} s at each rate. A rate is sustained if no frame is "
        f"lost and at most {BACKLOG_CHUNKS} chunks are under way at the end. The memory has a budget, as for "
        "hours.",
    )
    frames = next(bench.material.clips(1, 64)).frames
    for series, asked in (("idle", 0), (f"{ASKED} questions", ASKED)):
        best, answers = search(bench, frames, asked, section, series)
        section.points.append(Point(series, "highest rate", "frames/s", 0, (best,), timed=True))
        said = f"{series}: {best:.0f} frames per second without backlog"
        if asked:
            section.points.append(Point(series, "answers", "answers/s", 0, (answers,), timed=True))
            said += f", and {answers:.1f} answers per second meanwhile"
        section.findings.append(f"{said}.")
        bench.say(section.findings[-1])
    return section


def search(bench: Bench, frames: np.ndarray, asked: int, section: Section, series: str) -> tuple[float, float]:
    """Double the rate until it is too much, then halve the interval.

    Returns:
        The highest rate that was sustained, and the answers per second that were given meanwhile.
    """
    best, low, high, rate = Trial(0.0, 0, 0, 0.0, sustained=False), 0.0, 0.0, 8.0
    for _ in range(12 + _STEPS):
        trial = attempt(bench, frames, rate, asked)
        section.points.append(Point(series, "backlog at the end", "frames", rate, (trial.backlog,), timed=True))
        section.points.append(Point(series, "lost", "frames", rate, (trial.dropped,), timed=True))
        if trial.sustained:
            best, low = trial, rate
        else:
            high = rate
        if high and (high - low) / high < 0.06:
            break
        # Where frames cannot even be offered faster, that is the limit that can be shown.
        if not high and trial.rate < 0.8 * rate:
            break
        rate = (low + high) / 2 if high else 2 * rate
    return best.rate, best.answers


def attempt(bench: Bench, frames: np.ndarray, rate: float, asked: int) -> Trial:
    """Offer frames at a rate, by the clock."""
    budget = full_cache(bench.sides.loaded, _HELD, frames.shape[1:3], bench.sides.max_pixels)
    config = bench.config(eviction="window", budget_tokens=budget)
    count = max(4 * config.chunk_frames, round(rate * bench.plan.seconds))
    runner_config = RunnerConfig(queue_frames=_QUEUE)
    # Stamps are those of 4 frames a second: what is asked for is work, not a video that the model cannot tell apart.
    step = NANOSECONDS // 4
    over, answers, failures = threading.Event(), [0] * asked, list[StreamVLError]()
    with EngineRunner(VideoStream(bench.sides.loaded, config), runner_config) as runner:
        for i in range(2 * config.chunk_frames):
            runner.push(frames[i % len(frames)], i * step)
        _settle(runner)
        offset = 2 * config.chunk_frames
        askers = [threading.Thread(target=_ask, args=(runner, over, answers, failures, i)) for i in range(asked)]
        for asker in askers:
            asker.start()
        began = time.perf_counter()
        for i in range(count):
            time.sleep(max(0.0, began + i / rate - time.perf_counter()))
            runner.push(frames[i % len(frames)], (offset + i) * step)
        elapsed = time.perf_counter() - began
        status = runner.status()
        over.set()
        for asker in askers:
            asker.join(60)
    dropped = sum(status.frames.drops.values())
    backlog = status.frames.received - status.frames.ingested - status.frames.skipped - dropped
    sustained = dropped == 0 and backlog <= BACKLOG_CHUNKS * config.chunk_frames and not failures and all(answers)
    return Trial((count - 1) / elapsed, backlog, dropped, sum(answers) / elapsed, sustained)


def _settle(runner: EngineRunner) -> None:
    end = time.monotonic() + 60
    while (f := runner.status().frames).ingested + f.pending < f.received and time.monotonic() < end:
        time.sleep(0.005)


def _ask(
    runner: EngineRunner, over: threading.Event, answers: list[int], failures: list[StreamVLError], number: int
) -> None:
    while not over.is_set():
        try:
            future: Any = runner.ask(Question(f"What do you see{'?' * (1 + number)}", max_new_tokens=16))
            future.result(60)
        except StreamVLError as error:
            failures.append(error)
            return
        answers[number] += 1
