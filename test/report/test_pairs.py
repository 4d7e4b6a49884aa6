"""Pairs of answers on real footage."""

from __future__ import annotations

import pytest

from stream_vl_ros.bench.footage import find
from stream_vl_ros.report import pairs

BIKES = find("bikes")
pytestmark = pytest.mark.skipif(BIKES is None, reason="bikes.mp4 is not installed")


def test_whether_tokens_are_identical_is_said_of_footage_as_well(bench):
    section = pairs.real(bench, BIKES)
    assert section.findings[0] == "Tokens are identical in 1 of 1 pairs of answers."
    assert section.findings[1].startswith("bikes.mp4, 20 frames: first token after")


def test_chunk_sizes_of_footage(bench):
    section = pairs.real_chunks(bench, BIKES)
    assert {p.x for p in section.of("per frame")} == set(bench.plan.chunk_frames)
    assert "are best here" in section.findings[0]


@pytest.mark.counts
def test_native_runs_out_of_memory_on_footage(bench):
    section = pairs.real_ladder(bench, BIKES)
    assert any(r.side == "native" and not r.ran for r in section.rungs), "half of what it takes"
    assert section.said[-1].identical is True
    assert f"{bench.plan.footage_frames} frames at 10 fps" in section.text
