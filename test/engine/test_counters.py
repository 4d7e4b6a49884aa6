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


def times_of(*seconds: float) -> PlaceTimes:
    times = PlaceTimes()
    for s in seconds:
        times.add(s)
    return times


@pytest.mark.parametrize(
    ("ages", "ends", "seconds"),
    [
        ([0.5] * 4, 1, 2.5),  # those that came together end together
        ([2.9, 2.0, 1.0], 1, 1.0),  # those that came one by one end one by one
        ([60.0, 60.0], 1, 1.5),  # longer than ever before: at some moment of the mean time
        ([2.0, 1.0, 0.0], 2, 2.0),
    ],
)
def test_when_a_place_is_free(ages, ends, seconds):
    assert times_of(2.0, 4.0).promise(0.0, ages, ends) == seconds


def test_nothing_is_known_before_a_question_has_ended():
    assert PlaceTimes().promise(0.0, [0.0] * 4) is None
    assert times_of(*[9.0] * 10, *[1.0] * 32).promise(0.0, [0.0]) == 1.0, "the last ones count"


def test_those_who_were_told_before_come_first():
    times = times_of(4.0)
    ages = [3.9, 2.9, 1.9, 0.9]
    assert [times.promise(0.0, ages) for _ in range(4)] == [1.0, 2.0, 3.0, 4.0]
    assert [times.promise(0.0, ages) for _ in range(100)][-1] == 5.0, "as many as there are places, at the most"
    assert times.promise(4.5, ages) == 5.0
    assert times.promise(60.0, ages) == 1.0, "all of them were here"


def test_chunk_times():
    times = ChunkTimes()
    assert times.mean == 0
    times.count = 3  # a GPU is still at the third
    assert times.mean == 0
    times.add(1.0)
    times.add(2.0)
    assert (times.count, times.measured, times.last, times.total, times.mean) == (3, 2, 2.0, 3.0, 1.5)
