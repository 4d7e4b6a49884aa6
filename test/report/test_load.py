"""Questions at once, and budgets: both sides, by the same measures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_vl_ros.bench.eviction_runs import full_cache
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.load import eviction, in_turn, questions, side_by_side


def test_questions_at_once_have_every_measure_on_both_sides(bench):
    section = questions(bench)
    for count in bench.plan.questions:
        for measure in ("all answered", "ingest", "first token", "token", "peak memory", "accuracy"):
            ours, theirs = (section.at(measure, s, count) for s in ("stream", "native"))
            assert ours and theirs and ours.unit == theirs.unit, (measure, count)
        assert len(section.at("first token", "stream", count).values) == count * bench.plan.repeats
    few, many = min(bench.plan.questions), max(bench.plan.questions)
    ingest = {(s, n): section.at("ingest", s, n).median for s in ("stream", "native") for n in (few, many)}
    assert ingest["stream", few] == ingest["stream", many], "a stream reads a video once"
    assert ingest["native", many] > 2 * ingest["native", few], "native does for each question"
    assert "one after the other" in section.text and "one after the other" in section.findings[0]


def test_who_is_asked_later_waits_for_those_before(bench):
    clip = next(bench.material.clips(1, 16))
    stream, _ = bench.sides.watch(clip, bench.config())
    asked = clip.questions[:3]
    for it in (side_by_side(bench.sides, stream, asked, 0), in_turn(bench.sides, clip, asked)):
        assert it.first == sorted(it.first) and len(it.first) == len(it.right) == 3
        assert it.first[-1] <= it.whole


@pytest.fixture(scope="module")
def evicted(bench):
    plan = replace(bench.plan, frames=32, budgets=(0.01, 0.5))
    return eviction(Bench(bench.sides, bench.material, plan, bench.say))


def test_a_budget_that_is_refused_leaves_the_others(evicted):
    assert sum("0.01 of the full cache is refused" in f for f in evicted.findings) == 2
    for rule in ("window", "importance"):
        assert evicted.at("first token", rule, 0.5) and not evicted.at("first token", rule, 0.01)
    assert evicted.at("first token", "native", 1.0), "the dashed line"


def test_the_full_cache_is_what_a_clip_takes(bench):
    clip = next(bench.material.clips(1, 32))
    stream, _ = bench.sides.watch(clip, bench.config())
    assert stream.cache.length == full_cache(bench.sides.loaded, 32, bench.material.size, bench.sides.max_pixels)
