"""The highest frame rate whose queue stays bounded, with and without questions.

The protocol of StreamingEval (arXiv 2603.21493): frames arrive by the clock whether or not the engine is ready, and a
rate is sustained if no backlog is left to build up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_vl_ros.bench.eviction_runs import full_cache
from stream_vl_ros.engine import EngineRunner, Question, RunnerConfig, VideoStream
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.points import merged
from stream_vl_ros.report.results import Point, Section

ASKED = 4
# Chunks that may be under way when the last frame has come: one filling up, one being encoded.
BACKLOG_CHUNKS = 2
_QUEUE = 4096
_HELD = 64  # frames that the budget is for
_STEPS = 4
_NEAR = 0.06  # of a rate: the interval is not halved further
_CONFIRM = 6  # rates that are tried for longer
_LOOKS = 64  # at the backlog of a trial


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of frames that came at a rate.

    Attributes:
        rate: frames per second that were really offered.
        backlog: frames not yet in the cache when the last one had come.
        growth: frames by which the backlog of the last quarter is larger than that of the second, both on average.
        dropped: frames lost.
        answers: questions answered meanwhile, per second.
        sustained: whether the queue stayed bounded, and whoever asked was answered.
    """

    rate: float
    backlog: int
    growth: float
    dropped: int
    answers: float
    sustained: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The highest rate, from both sides.

    Attributes:
        best: the confirmed trial at the highest rate that passed; None if none did.
        failed: the lowest rate above it that did not pass; 0 if none was too much.
    """

    best: Trial | None
    failed: float


def max_fps(bench: Bench) -> Section:
    plan = bench.plan
    section = Section(
        "max fps",
        "Highest frame rate without backlog",
        "frames per second offered",
        f"Frames arrive by the clock for {plan.seconds:g} s at each rate, and for {plan.confirm:g} s at the one that "
        "is reported. A rate is sustained if no frame is lost, the backlog at the end is no larger than at half time "
        f"by more than a chunk, and at most {BACKLOG_CHUNKS} chunks are under way at the end. The memory has a budget, "
        "as for hours.",
    )
    frames = next(bench.material.clips(1, 64)).frames
    for series, asked in (("idle", 0), (f"{ASKED} questions", ASKED)):
        found = search(bench, frames, asked, section, series)
        best = found.best or Trial(0.0, 0, 0.0, 0, 0.0, sustained=False)
        section.points.append(Point(series, "highest rate", "frames/s", 0, (best.rate,), timed=True))
        if found.failed:
            section.points.append(Point(series, "lowest rate that failed", "frames/s", 0, (found.failed,), timed=True))
        if asked:
            section.points.append(Point(series, "answers", "answers/s", 0, (best.answers,), timed=True))
        section.findings.append(in_words(found, plan.confirm, asked))
        bench.say(section.findings[-1])
    return section


def in_words(found: Found, seconds: float, asked: int) -> str:
    """The bracket: what passed, and what did not."""
    when = f"With {asked} questions at once" if asked else "Without questions"
    failed = f"{found.failed:.1f} failed" if found.failed else "none that could be offered failed"
    if found.best is None:
        return f"{when}: no rate that was tried is without backlog; {failed}."
    answers = f", and {found.best.answers:.1f} answers per second meanwhile" if asked else ""
    if found.failed and (found.failed - found.best.rate) / found.failed > 2 * _NEAR:
        failed += ", and what is between was not confirmed"
    return f"{when}: {found.best.rate:.1f} frames per second without backlog over {seconds:g} s ({failed}){answers}."


def search(bench: Bench, frames: np.ndarray, asked: int, section: Section, series: str) -> Found:
    """Double the rate until it is too much, halve the interval, and confirm what is left for longer."""
    low, high, rate = 0.0, 0.0, 8.0

    def tried(rate: float, seconds: float) -> Trial:
        trial = attempt(bench, frames, rate, asked, seconds)
        section.points.append(Point(series, "backlog at the end", "frames", rate, (trial.backlog,), timed=True))
        section.points.append(Point(series, "growth of the backlog", "frames", rate, (trial.growth,), timed=True))
        section.points.append(Point(series, "lost", "frames", rate, (trial.dropped,), timed=True))
        return trial

    for _ in range(12 + _STEPS):
        trial = tried(rate, bench.plan.seconds)
        if trial.sustained:
            low = rate
        else:
            high = rate
        if high and (high - low) / high < _NEAR:
            break
        # Where frames cannot even be offered faster, that is the limit that can be shown.
        if not high and trial.rate < 0.8 * rate:
            break
        rate = (low + high) / 2 if high else 2 * rate
    # What passes for a short while may still fall behind slowly: then less is tried, and the interval halved again.
    best: Trial | None = None
    for i in range(_CONFIRM if low else 0):
        rate = low if best is None else (low + high) / 2
        trial = tried(rate, bench.plan.confirm)
        if trial.sustained:
            best, low = trial, rate
            if not high or (high - low) / high < _NEAR:
                break
        else:
            high = rate
            low = rate * (1 - min(0.5, 2**i * _NEAR)) if best is None else low
    merged(section)
    return Found(best, high)


def attempt(bench: Bench, frames: np.ndarray, rate: float, asked: int, seconds: float) -> Trial:
    """Offer frames at a rate for so long, by the clock."""
    budget = full_cache(bench.sides.loaded, _HELD, frames.shape[1:3], bench.sides.max_pixels)
    config = bench.config(eviction="window", budget_tokens=budget)
    count = max(4 * config.chunk_frames, round(rate * seconds))
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
        waiting, every = list[int](), max(1, count // _LOOKS)
        began = time.perf_counter()
        for i in range(count):
            time.sleep(max(0.0, began + i / rate - time.perf_counter()))
            runner.push(frames[i % len(frames)], (offset + i) * step)
            if i % every == 0:
                waiting.append(backlog(runner))
        elapsed = time.perf_counter() - began
        left, dropped = backlog(runner), sum(runner.status().frames.drops.values())
        answered = list(answers)  # those that are still being written are not of this time
        over.set()
        for asker in askers:
            asker.join(60)
    grown = growth(waiting)
    bounded = left <= BACKLOG_CHUNKS * config.chunk_frames and grown <= config.chunk_frames
    sustained = bounded and dropped == 0 and not failures and all(answers)
    return Trial((count - 1) / elapsed, left, grown, dropped, sum(answered) / elapsed, sustained)


def backlog(runner: EngineRunner) -> int:
    """Frames that were handed over and are neither in the cache nor given up."""
    f = runner.status().frames
    return f.received - f.ingested - f.skipped - sum(f.drops.values())


def growth(waiting: Sequence[int]) -> float:
    """Of the backlog from half time to the end: a quarter on average before each, as it goes up and down by chunks."""
    quarter = max(1, len(waiting) // 4)
    middle, end = waiting[quarter : 2 * quarter], waiting[-quarter:]
    return float(np.mean(end) - np.mean(middle or end))


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
