"""Both sides over an axis, by the same measures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.curves import WINDOWED, length
from stream_vl_ros.report.material import LONGEST


@pytest.fixture(scope="module")
def section(bench):
    plan = replace(bench.plan, clips=1, lengths=(16, 128), curve_cap=0.0)
    return length(Bench(bench.sides, bench.material, plan, bench.say))


def test_every_measure_is_there_for_both_sides_at_every_length(section):
    for frames in (16, 128):
        for measure in ("ingest", "first token", "token", "answer", "peak memory", "context", "accuracy"):
            ours, theirs = (section.at(measure, s, frames) for s in ("stream", "native"))
            assert ours and theirs and ours.unit == theirs.unit, (measure, frames)
    for x in (16, 128):
        ours, theirs = (section.at("context", s, x) for s in ("stream", "native"))
        assert ours.values == theirs.values, "the same tokens on both sides"
    assert "Ingest is the time until all frames are in the context" in section.text


def test_accuracy_goes_on_beyond_the_longest_clip_and_a_window_keeps_it(section):
    assert section.at("accuracy", WINDOWED, 128).median == 100
    assert any(f.startswith("Accuracy at 128 frames, of the last scene: stream") for f in section.findings)


def test_a_clip_that_repeats_ends_with_its_last_scene(bench):
    for frames in (100, 2 * LONGEST):
        for clip in bench.material.clips(2, frames):
            assert len(clip) == frames and (clip.frames[-1] == clip.frames[-1 - LONGEST]).all()
            assert len(clip.questions) >= 2 and all(q.right for q in clip.questions)
