"""Sizes of chunks, measured."""

from __future__ import annotations

import pytest

from stream_vl_ros.report.chunk_sweep import chunks


def test_a_chunk_of_three_encodes_a_pair_and_the_first_is_told_apart(bench):
    section = chunks(bench)
    growth = {p.x: p.values[0] for p in section.of("cache growth")}
    assert growth[2] == growth[3] == pytest.approx(growth[4] / 2), "nothing is padded"
    frames, clips = bench.plan.frames, bench.plan.clips
    for x, encoded in ((2, 2), (3, 2), (4, 4)):
        assert len(section.at("first chunk", "stream", x).values) == clips
        assert len(section.at("later chunks", "stream", x).values) == clips * (frames // encoded - 1)
        per_frame, later = (section.at(m, "stream", x) for m in ("per frame", "later chunks"))
        assert per_frame.median == pytest.approx(later.median / encoded)
    assert "are best here" in section.findings[0] and "first chunk of the process" in section.findings[1]
