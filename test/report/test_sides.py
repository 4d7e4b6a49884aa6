"""One question by either side."""

from __future__ import annotations

import pytest

from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import NativeOOMError


def test_both_sides_say_the_same_tokens_about_every_question(bench):
    for clip in bench.material.clips(2, 17, fps=4.0):
        for question in clip.questions:
            ours = bench.sides.ask_stream(clip, question, bench.config(chunk_frames=3))
            theirs = bench.sides.ask_native(clip, question)
            assert ours.ids == theirs.ids and ours.text == theirs.text
            assert ours.right == theirs.right is not None
            assert len(ours.chunks) == 8 and ours.prepare == pytest.approx(sum(ours.chunks))
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
    assert error.allocated >= before
    assert error.asked is None or error.asked > 0
    if error.asked is not None:
        assert f"{error.asked / MIB:.1f} MiB more were asked for" in str(error)
    held = bench.sides.gauge.reset()
    assert held - before < 24 * MIB, "what the failed attempt held is given back"
    assert bench.sides.ask_native(clip.every(16), clip.questions[0], cap=512).ids, "and it goes on"
