"""Down the ladder of frame strides, with memory that really runs out."""

from __future__ import annotations

import pytest

from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import MemoryFullError, NativeOOMError, ReportError
from stream_vl_ros.report.ladder import compare, record, strides
from stream_vl_ros.report.results import Section
from stream_vl_ros.report.sides import Asked, Clip, Run, Sides


@pytest.mark.counts
def test_it_always_ends_with_a_fair_pair(bench):
    clip = next(bench.material.clips(1, 128))
    said: list[str] = []
    outcome = compare(bench.sides, clip, clip.questions[0], ladder=(1, 2), cap=24, repeats=2, say=said.append)
    assert outcome.fair > 1 and 1 in outcome.failures, "128 frames take more than 24 MiB"
    tried = [s for s in (1, 2, 4, 8, 16, 32, 64) if s <= outcome.fair]
    assert set(outcome.stream) <= set(tried) and outcome.fair in outcome.stream
    assert all(r.peak - r.before < 32 * MIB for r in outcome.stream[outcome.fair]), "streaming had the same cap"
    assert all(isinstance(e, NativeOOMError) and e.allocated > 0 for e in outcome.failures.values())
    ours, theirs = outcome.stream[outcome.fair], outcome.native
    assert len(ours) == len(theirs) == 2
    assert {r.ids for r in ours} == {r.ids for r in theirs}, "the same tokens on both sides"
    failed = [r for r in outcome.rungs if not r.ran]
    assert [r.stride for r in failed if r.side == "native"] == list(outcome.failures)
    assert all(any(r.words in line for line in said) for r in outcome.rungs), "what is recorded was also said"
    section = Section("ladder", "", "frames", "")
    record(section, outcome, clip, clip.questions[0])
    alone = [s for s in outcome.failures if s in outcome.stream]
    assert alone and [s.native is None for s in section.said] == [True] * len(alone) + [False]
    assert section.said[-1].identical is True
    assert section.said[-1].stream_ids == section.said[-1].native_ids == ours[0].ids
    frames = len(clip.every(outcome.fair))
    assert section.at("first token", "native", frames) and section.at("first token", "stream", frames)
    assert "only streaming ran with 24 MiB for either side" in section.findings[0]
    assert f"stride {outcome.fair}" in section.findings[0]
    assert (
        0 < outcome.taken[1] <= 24 * MIB
        and f"at 1 it had taken {outcome.taken[1] / MIB:.1f} MiB" in section.findings[0]
    )


@pytest.mark.counts
def test_streaming_has_the_same_cap(bench):
    clip = next(bench.material.clips(1, 8))
    roomy = bench.config(initial_capacity=100_000)
    with pytest.raises(MemoryFullError, match=r"streaming over toy world, 8 frames ran out of memory.* cap of 64 MiB"):
        bench.sides.ask_stream(clip, clip.questions[0], roomy, cap=64)
    outcome = compare(bench.sides, clip.every(2), clip.questions[0], ladder=(1,), config=bench.config(), cap=64)
    assert outcome.fair == 1


def test_without_a_cap_the_first_rung_holds(bench):
    clip = next(bench.material.clips(1, 16))
    outcome = compare(bench.sides, clip, clip.questions[0])
    assert outcome.fair == 1 and not outcome.failures and len(outcome.rungs) == 2


class Full(Sides):
    """The real stream, beside a device without any room for native inference."""

    def ask_native(self, clip: Clip, question: Asked, cap: float = 0.0) -> Run:
        raise NativeOOMError(f"no room for {clip.about()}", allocated=7, asked=None)


@pytest.mark.counts
def test_where_native_never_runs_the_reason_is_said(bench):
    clip = next(bench.material.clips(1, 4))
    sides = Full(bench.sides.native, bench.sides.loaded, bench.sides.gauge, 8)
    said: list[str] = []
    with pytest.raises(
        ReportError,
        match=r"at every stride over toy world, 4 frames, \[1, 2\]: streaming ran at \[1, 2\], native ran at none, "
        "with a cap of 5 MiB; give it more",
    ):
        compare(sides, clip, clip.questions[0], cap=5, config=bench.config(initial_capacity=64), say=said.append)
    assert sum("no room" in line for line in said) == 2, "of 4 frames and of 2"


def test_a_clip_too_short_for_every_stride_is_told_from_memory_that_runs_out(bench):
    clip = next(bench.material.clips(1, 8))
    with pytest.raises(ReportError, match=r"frame strides \[8, 16\]: no two of toy world, 8 frames are left .* give 7"):
        compare(bench.sides, clip, clip.questions[0], ladder=(8, 16))


@pytest.mark.parametrize(
    ("ladder", "frames", "all_of_them"),
    [((1, 2, 4), 33, [1, 2, 4, 8, 16, 32]), ((1, 3), 7, [1, 3, 6]), ((2,), 3, [2]), ((1, 2, 4), 2, [1])],
)
def test_the_stride_doubles_beyond_the_ladder(ladder, frames, all_of_them):
    assert list(strides(ladder, frames)) == all_of_them


@pytest.mark.parametrize("ladder", [(), (0, 1), (2, 1), (1, 1)])
def test_a_ladder_rises(ladder):
    with pytest.raises(ReportError, match="rising whole numbers"):
        list(strides(ladder, 9))
