"""Frames by the clock: what is sustained and what is not."""

from __future__ import annotations

import pytest

from stream_vl_ros.report.max_fps import attempt, search
from stream_vl_ros.report.results import Section

pytestmark = pytest.mark.alone


def test_a_slow_camera_is_sustained_and_an_impossible_one_is_not(bench):
    frames = next(bench.material.clips(1, 16)).frames
    slow = attempt(bench, frames, 4.0, 0)
    assert slow.sustained and slow.dropped == 0 and slow.backlog <= 8
    assert 3.5 < slow.rate < 4.5
    flooded = attempt(bench, frames, 5000.0, 2)
    assert not flooded.sustained
    assert flooded.backlog > 8 or flooded.dropped > 0
    assert slow.answers == 0


def test_the_highest_rate_is_one_that_was_sustained(bench):
    frames = next(bench.material.clips(1, 16)).frames
    section = Section("max fps", "", "", "")
    best, answers = search(bench, frames, 0, section, "idle")
    assert answers == 0
    backlog = {p.x: p.values[0] for p in section.of("backlog at the end", "idle")}
    assert best >= 8
    sustained = [rate for rate, left in backlog.items() if left <= 8]
    assert max(sustained) == pytest.approx(best, rel=0.2)
    assert max(backlog) > best, "a higher one was tried"
