"""Pairs of answers on real footage."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from stream_vl_ros.bench.footage import find
from stream_vl_ros.report import pairs
from stream_vl_ros.report.chunk_sweep import STARTS
from stream_vl_ros.report.options import QUICK
from stream_vl_ros.report.results import Results

BIKES = find("bikes")
pytestmark = pytest.mark.skipif(BIKES is None, reason="bikes.mp4 is not installed")


def test_whether_tokens_are_identical_is_said_of_footage_as_well(bench):
    section = pairs.real(bench, BIKES)
    assert section.findings[0] == "bikes.mp4: Tokens are identical in 1 of 1 pairs of answers."
    assert section.findings[1].startswith("bikes.mp4, 20 frames: first token after")


def test_chunk_sizes_of_footage(bench):
    sizes = (2, 4, 8)
    section = pairs.real_chunks(replace(bench, plan=replace(bench.plan, chunk_frames=sizes)), BIKES)
    assert {p.x for p in section.of("per frame")} == set(sizes)
    assert "are best here" in section.findings[0]
    # 20 frames are two chunks of 8 and four frames: those are no chunk of 8.
    assert bench.plan.frames >= 20
    tokens = {p.x: p.median for p in section.of("cache growth")}
    assert tokens[8] == 2 * tokens[4] == 4 * tokens[2]
    assert {p.x: len(p.values) for p in section.of("later chunks")}[8] == STARTS


def test_native_runs_out_of_memory_on_footage(tmp_path):
    """As the command does it, in a process that holds nothing that other tests' threads have freed."""
    command = [
        *(sys.executable, "-m", "stream_vl_ros.report", "--quick", "--device", "cpu", "--sections", "footage"),
        *("--footage", str(BIKES), "--out", str(tmp_path), "--name", "one"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert run.returncode == 0, run.stderr
    section = Results.load(tmp_path / "runs" / "one").section("footage bikes ladder")
    assert any(r.side == "native" and not r.ran for r in section.rungs), "half of what it takes"
    assert section.said[-1].identical is True
    assert f"{QUICK.footage_frames} frames at 10 fps" in section.text
