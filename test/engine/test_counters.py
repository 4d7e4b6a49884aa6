"""Accounts."""

from __future__ import annotations

import pytest

from stream_vl_ros.engine.answer import Finish
from stream_vl_ros.engine.counters import ChunkTimes, FrameCounters, QuestionCounters
from stream_vl_ros.engine.place_times import PlaceTimes
from stream_vl_ros.errors import (
    BusyError,
    CacheError,
    ConfigError,
    EngineClosedError,
    MemoryFullError,
    NoVideoError,
    PromptError,
    RequestError,
    TimedOutError,
)


def test_every_place_counts():
    counters = FrameCounters(received=21, queued=1, in_hand=2, pending=3, ingested=4, skipped=5)
    counters.drops["queue_full"] += 4
    assert not counters.balanced
    counters.drops["short_data"] += 2
    assert counters.balanced
    assert (counters.waiting, counters.dropped) == (6, 6)


@pytest.mark.parametrize("place", ["received", "queued", "in_hand", "pending", "ingested", "skipped"])
def test_a_lost_frame_shows(place):
    counters = FrameCounters()
    assert counters.balanced
    setattr(counters, place, 1)
    assert not counters.balanced


def test_a_copy_stands_still():
    counters = FrameCounters(1, 2, 3, 4, 5, 6)
    counters.drops["reset"] = 7
    copy = counters.copy()
    assert copy == counters
    counters.received += 1
    counters.drops["reset"] += 1
    assert (copy.received, copy.dropped) == (1, 7)


@pytest.mark.parametrize("place", ["asked", "active", "answered", "cancelled", "timed_out"])
def test_a_lost_question_shows(place):
    counters = QuestionCounters()
    assert counters.balanced
    setattr(counters, place, 1)
    assert not counters.balanced


@pytest.mark.parametrize(
    ("end", "place"),
    [(finish, "answered") for finish in (Finish.STOP, Finish.STOP_STRING, Finish.LENGTH, Finish.CHOICE)]
    + [(Finish.CANCELLED, "cancelled"), (Finish.TIMEOUT, "timed_out"), (TimedOutError("late"), "timed_out")],
)
def test_how_a_question_ended(end, place):
    counters = QuestionCounters(asked=1)
    counters.count(end)
    assert counters.balanced and getattr(counters, place) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BusyError("busy", 1.0), "busy"),
        (NoVideoError("none"), "no_video"),
        (PromptError("empty"), "bad_question"),
        (ConfigError("top_p=2"), "bad_question"),
        (MemoryFullError("full"), "out_of_memory"),
        (EngineClosedError("closed"), "shutdown"),
        (RequestError("broken"), "engine_error"),
        (CacheError("broken"), "engine_error"),
    ],
)
def test_why_a_question_was_refused(error, reason):
    counters = QuestionCounters(asked=1)
    counters.count(error)
    assert counters.balanced and counters.refusals == {reason: 1}
    copy = counters.copy()
    counters.count(error)
    assert copy.refused == 1


def test_when_a_place_is_free():
    times = PlaceTimes()
    assert times.until_free([0.0] * 4) is None
    times.add(2.0)
    times.add(4.0)
    assert times.until_free([0.5] * 4) == 2.5, "those that came together end together"
    assert times.until_free([2.9, 2.0, 1.0]) == 1.0, "those that came one by one end one by one"
    assert times.until_free([60.0, 60.0]) == 1.5, "longer than ever before: at some moment of the mean time"
    assert times.until_free([2.0, 1.0, 0.0], 2) == 2.0
    for _ in range(100):
        times.add(1.0)
    assert times.until_free([0.0]) == 1.0, "the last ones count"


def test_chunk_times():
    times = ChunkTimes()
    assert times.mean == 0
    times.add(1.0)
    times.add(2.0)
    assert (times.count, times.last, times.total, times.mean) == (2, 2.0, 3.0, 1.5)
