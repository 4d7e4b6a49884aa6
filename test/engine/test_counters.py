"""Accounts."""

from __future__ import annotations

import pytest

from stream_vl_ros.engine.counters import ChunkTimes, FrameCounters, QuestionCounters


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


def test_active_questions():
    assert QuestionCounters(asked=5, answered=2, failed=1).active == 2


def test_chunk_times():
    times = ChunkTimes()
    assert times.mean == 0
    times.add(1.0)
    times.add(2.0)
    assert (times.count, times.last, times.total, times.mean) == (2, 2.0, 3.0, 1.5)
