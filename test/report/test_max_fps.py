"""Frames by the clock: what is sustained and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from stream_vl_ros.report import max_fps
from stream_vl_ros.report.max_fps import Found, Trial, attempt, growth, in_words, search
from stream_vl_ros.report.results import Section


@pytest.mark.alone
def test_a_slow_camera_is_sustained_and_an_impossible_one_is_not(bench):
    frames = next(bench.material.clips(1, 16)).frames
    slow = attempt(bench, frames, 4.0, 0, 1.0)
    assert slow.sustained and slow.dropped == 0 and slow.backlog <= 8 and slow.growth <= 4
    assert 3.5 < slow.rate < 4.5
    flooded = attempt(bench, frames, 5000.0, 2, 1.0)
    assert not flooded.sustained
    assert flooded.backlog > 8 or flooded.dropped > 0
    assert slow.answers == 0


@pytest.mark.alone
def test_the_highest_rate_is_one_that_was_sustained_for_longer(bench):
    frames = next(bench.material.clips(1, 16)).frames
    section = Section("max fps", "", "", "")
    found = search(bench, frames, 0, section, "idle")
    assert found.best is not None and found.best.sustained and found.best.answers == 0
    assert found.best.rate >= 8
    backlog = {p.x: p.values for p in section.of("backlog at the end", "idle")}
    assert any(x == pytest.approx(found.best.rate, rel=0.2) and min(v) <= 8 for x, v in backlog.items())
    assert found.failed > found.best.rate and max(backlog) > found.best.rate, "a higher one was tried"


def test_a_backlog_that_grows_slowly_is_seen():
    up_and_down = [2, 4, 1, 3] * 16
    assert growth(up_and_down) == 0
    assert growth([w + i // 4 for i, w in enumerate(up_and_down)]) == pytest.approx(8, abs=0.5)
    assert growth([3]) == 0


def fake(limits: dict[float, float], tried: list[tuple[float, float]]):
    """Trials of an engine that sustains less the longer it is watched."""

    def attempt(bench: object, frames: object, rate: float, asked: int, seconds: float) -> Trial:
        tried.append((rate, seconds))
        return Trial(rate, 0, 0.0, 0, 0.0, sustained=rate <= limits[seconds])

    return attempt


@pytest.mark.parametrize(("long", "confirmed"), [(100.0, 100.0), (90.0, 90.0)])
def test_what_only_passes_for_a_moment_is_not_reported(bench, monkeypatch, long, confirmed):
    tried: list[tuple[float, float]] = []
    short = bench.plan.seconds
    monkeypatch.setattr(max_fps, "attempt", fake({short: 100.0, bench.plan.confirm: long}, tried))
    found = search(bench, np.zeros((1, 4, 4, 3), np.uint8), 0, Section("max fps", "", "", ""), "idle")
    assert found.best is not None and 0.9 * confirmed < found.best.rate <= confirmed
    assert (found.best.rate, bench.plan.confirm) in tried, "for longer"
    assert found.best.rate < found.failed <= 1.07 * found.best.rate


def test_the_bracket_is_said():
    best = Trial(60.2, 3, 0.5, 0, 28.5, sustained=True)
    said = in_words(Found(best, 64.0), 10, 4)
    assert said == (
        "With 4 questions at once: 60.2 frames per second without backlog over 10 s (64.0 failed), "
        "and 28.5 answers per second meanwhile."
    )
    assert in_words(Found(None, 8.0), 10, 0) == (
        "Without questions: no rate that was tried is without backlog; 8.0 failed."
    )
    assert "(90.0 failed, and what is between was not confirmed)" in in_words(Found(best, 90.0), 10, 4)
