"""Sizes of chunks, measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_vl_ros.report.chunk_sweep import SHORT, STARTS, best_in_words, chunks, cost
from stream_vl_ros.report.results import Point, Section

# One measurement for all, and it counts memory.
pytestmark = pytest.mark.counts


@pytest.fixture(scope="module")
def section(bench):
    return chunks(bench)


def test_a_chunk_of_three_encodes_a_pair_and_the_first_is_told_apart(bench, section):
    growth = {p.x: p.values[0] for p in section.of("cache growth")}
    assert growth[2] == growth[3] == pytest.approx(growth[4] / 2), "nothing is padded"
    frames, starts = bench.plan.frames, max(STARTS, bench.plan.clips)
    for x, encoded in ((2, 2), (3, 2), (4, 4)):
        assert len(section.at("first chunk", "stream", x).values) == starts
        assert len(section.at("later chunks", "stream", x).values) == starts * (frames // encoded - 1)
        per_frame, later = (section.at(m, "stream", x) for m in ("per frame", "later chunks"))
        assert per_frame.median == pytest.approx(later.median / encoded)
    assert "are best here" in section.findings[0] and "first chunk of the process" in section.findings[2]


def test_memory_grows_by_the_cache_at_least_for_every_stream(bench, section):
    for x in bench.plan.chunk_frames:
        cache = section.at("cache memory", "stream", x).values[0]
        growth = section.at("memory growth", "stream", x).values
        assert len(growth) == STARTS
        assert min(growth) >= cache > 0, "also of a stream that was not the first"


def test_a_question_that_comes_before_a_chunk_is_full_pays_for_what_waits(bench, section):
    for x in bench.plan.chunk_frames:
        none, some = (section.at("first token", s, x) for s in ("stream", SHORT))
        assert len(none.values) == len(some.values) == max(STARTS, bench.plan.clips)
        assert min(some.values) > min(none.values), "the frames that wait are encoded before the answer"
    assert "of a chunk of 2 wait" in section.findings[0] and "where none does" in section.findings[0]


def test_the_odd_frame_is_doubled_for_a_question_and_that_is_said(section):
    tokens = section.at("cache growth", "stream", 2).values[0]
    assert f"3 frames take {2 * tokens:g} tokens, 4 take {2 * tokens:g}" in section.findings[1]


def swept(fixed: float, each: float) -> Section:
    section = Section("chunks", "", "frames per chunk", "")
    for x, encoded in ((2, 2), (3, 2), (4, 4), (6, 6), (8, 8)):
        later = fixed + each * encoded
        section.points += [
            Point("stream", "later chunks", "ms", x, (later,)),
            Point("stream", "per frame", "ms", x, (later / encoded,)),
        ]
    return section


def test_why_a_size_is_best_is_a_fit():
    assert cost(swept(8.0, 2.5)) == pytest.approx((8.0, 2.5))
    dear, cheap = (best_in_words(swept(fixed, 18.0)) for fixed in (36.0, 0.5))
    assert dear.startswith("Chunks of 8 frames are best") and "no larger one was tried" in dear
    assert "A chunk costs 36.00 ms whatever its size plus 18.00 ms a frame, so the more frames" in dear
    assert "50 % of a chunk of 2" in dear
    assert cheap.startswith("Chunks of 2 frames are best") and "times as fast" not in cheap
    assert "0.50 ms whatever its size plus 18.00 ms a frame, so there is next to nothing" in cheap


def test_an_odd_size_is_never_best():
    """It is a smaller one and a frame that waits: where it is fastest, that is noise."""
    section = swept(0.5, 18.0)
    for i, point in enumerate(section.points):
        if (point.measure, point.x) == ("per frame", 3):
            section.points[i] = replace(point, values=(15.0,))
    assert best_in_words(section).startswith("Chunks of 2 frames are best")
