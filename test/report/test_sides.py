"""One question by either side."""

from __future__ import annotations

import pytest
import torch

from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import NativeOOMError
from stream_vl_ros.report.results import Section
from stream_vl_ros.report.sides import Asked, Clip, Run, Sides


@pytest.mark.parametrize(("stride", "frames"), [(1, 17), (2, 8), (3, 6), (5, 4), (7, 2), (16, 2)])
def test_each_so_many_frames_lie_in_memory_of_their_own(bench, stride, frames):
    """Native inference would copy a view, and everything between as well."""
    clip = next(bench.material.clips(1, 17))
    some = clip.every(stride)
    assert len(some) == len(some.stamps) == frames
    assert some.frames.flags["C_CONTIGUOUS"] and (stride == 1 or some.frames.base is None)
    assert (some.frames == clip.frames[::stride][:frames]).all()
    assert some.stamps == clip.stamps[::stride][:frames]


def test_a_stream_is_watched_once_for_all_its_questions(bench):
    clips = list(bench.material.clips(2, 8))
    section = Section("s", "S", "frames", "")
    some = {p.measure: p for p in bench.streamed(section, 8, clips, bench.config())}
    asked = sum(len(c.questions) for c in clips)
    assert asked > 2
    assert (len(some["ingest"].values), len(some["chunk"].values), len(some["peak memory"].values)) == (2, 4, 2)
    assert len(some["first token"].values) == asked


def test_both_sides_say_the_same_tokens_about_every_question(bench):
    for clip in bench.material.clips(1, 17, fps=4.0):
        for question in clip.questions:
            ours = bench.sides.ask_stream(clip, question, bench.config(chunk_frames=3))
            theirs = bench.sides.ask_native(clip, question)
            assert ours.ids == theirs.ids and ours.text == theirs.text
            assert ours.right == theirs.right is not None
            assert len(ours.chunks) == 8 and ours.ingest == pytest.approx(sum(ours.chunks))
            assert 0 < theirs.prepare < theirs.ingest <= theirs.first, "the first token is told when all is read"
            assert ours.context_tokens == theirs.context_tokens > ours.cache_tokens
            assert len(ours.token) >= len(ours.ids) - 1
            assert 0 < ours.first < ours.total or len(ours.ids) == 1
            assert ours.cache_tokens > 0 and ours.cache_bytes > 0
            assert theirs.peak >= theirs.before


@pytest.mark.counts
def test_running_out_of_memory_carries_the_numbers_and_leaves_nothing_behind(bench):
    clip = next(bench.material.clips(1, 256))
    before = bench.sides.gauge.reset()
    with pytest.raises(NativeOOMError, match=r"256 frames ran out of memory: .* cap of 24 MiB") as raised:
        bench.sides.ask_native(clip, clip.questions[0], cap=24)
    error = raised.value
    taken = error.allocated - error.before
    assert taken <= 24 * MIB, "the cap held"
    assert error.before == pytest.approx(before, abs=8 * MIB)
    assert error.asked is not None and taken + error.asked >= 24 * MIB - 2 * bench.sides.gauge.granularity
    assert f"{error.asked / MIB:.1f} MiB more were asked for" in str(error)
    assert f"{taken / MIB + error.before / MIB:.1f} MiB were allocated at the most" in str(error)
    held = bench.sides.gauge.reset()
    assert held - before < 24 * MIB, "what the failed attempt held is given back"
    assert bench.sides.ask_native(clip.every(16), clip.questions[0], cap=512).ids, "and it goes on"


WORDS = (
    "CUDA out of memory. Tried to allocate 1.64 GiB. GPU 0 has a total capacity of 79.18 GiB of which 65.82 GiB is "
    "free. Including non-PyTorch memory, this process has 13.35 GiB memory in use. 12.97 GiB allowed; Of the allocated "
    "memory 10.08 GiB is allocated by PyTorch, and 2.61 GiB is reserved by PyTorch but unallocated."
)


class Briefly(Sides):
    """Native inference that takes much, gives it back, and then fails."""

    def _native(self, clip: Clip, question: Asked, before: int, cap: float) -> Run:
        torch.ones(96 * MIB // 4)
        raise torch.OutOfMemoryError(WORDS)


@pytest.mark.counts
def test_the_peak_is_told_and_the_allocators_words_are_whole(bench):
    clip = next(bench.material.clips(1, 4))
    sides = Briefly(bench.sides.native, bench.sides.loaded, bench.sides.gauge, 8)
    with pytest.raises(NativeOOMError) as raised:
        sides.ask_native(clip, clip.questions[0])
    assert raised.value.allocated - raised.value.before >= 95 * MIB, "also of what was freed before it was asked"
    assert raised.value.asked == round(1.64 * 2**30)
    assert WORDS in str(raised.value)
