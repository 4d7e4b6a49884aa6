"""Positions of a growing video segment: against exact arithmetic and against transformers' own."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.engine.positions import VideoSegment, text_positions
from stream_vl_ros.engine.units import NANOSECONDS

RATES = ["0.37", "0.5", "1", "2", "3", "4", "7", "10", "12.5", "15", "23.976", "24", "25", "29.97", "30"]
SPLITS = {"one_by_one": 1, "two": 2, "three": 3, "whole": 10**9}


def grown(segment: VideoSegment, times: list[int], sizes: Iterable[int]) -> tuple[VideoSegment, torch.Tensor]:
    """`times` appended in chunks of the given sizes, the last of which repeats."""
    parts, begin, size = [], 0, 1
    sizes = iter(sizes)
    while begin < len(times):
        size = next(sizes, size)
        segment, positions = segment.extend(times[begin : begin + size])
        parts.append(positions)
        begin += size
    return segment, torch.cat(parts, dim=1)


def brute_force(start: int, grid: tuple[int, int], temporal: list[int]) -> list[tuple[int, int, int]]:
    return [(start + t, start + y, start + x) for t in temporal for y in range(grid[0]) for x in range(grid[1])]


def pair_times(fps: Fraction, patches: int, origin: int = 0) -> list[int]:
    """Stamps of every second frame of a camera, cut to whole nanoseconds as drivers do."""
    return [origin + int(2 * i * NANOSECONDS / fps) for i in range(patches)]


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("grid", [(1, 1), (3, 2), (2, 5)])
@pytest.mark.parametrize("rate", RATES)
def test_exact_arithmetic(rate, grid, split):
    fps, tps, start = Fraction(rate), Fraction(2), 17
    times = pair_times(fps, 60, origin=1_700_000_000_123_456_789)
    segment, positions = grown(VideoSegment(start, grid, tps), times, [split])
    temporal = [int(tps * 2 * i / fps) for i in range(60)]
    assert positions.dtype == torch.int64
    assert [tuple(c) for c in positions.T.tolist()] == brute_force(start, grid, temporal)
    assert (segment.patches, segment.last_time) == (60, start + temporal[-1])
    assert segment.origin_ns == times[0]


@pytest.mark.parametrize("tps", [2, 3, 25])
@pytest.mark.parametrize("rate", ["7", "15", "24", "29.97", "30"])
def test_an_hour_of_truncated_stamps(rate, tps):
    # Cut to nanoseconds, most stamps lie before the moment they stand for; none may slip into the position before.
    fps, patches = Fraction(rate), int(Fraction(rate) * 1800)
    _, positions = VideoSegment(0, (1, 1), Fraction(tps)).extend(pair_times(fps, patches))
    up, down = (tps * 2 / fps).as_integer_ratio()
    assert positions[0].tolist() == [up * i // down for i in range(patches)]


@pytest.mark.parametrize("unit", [1, 1_000], ids=["nanoseconds", "microseconds"])
@pytest.mark.parametrize("part", [0, 100_000_000, 123_456_789, 200_000_000, 333_333_333, 700_000_000])
def test_stamps_of_todays_date_in_float_seconds(part, unit):
    # A float64 of this size is off by up to an eighth of a microsecond; some drivers give whole microseconds.
    base = 1_700_000_000_000_000_000 + part
    seconds = [(t // unit * unit) / NANOSECONDS for t in pair_times(Fraction(30), 500, origin=base)]
    _, positions = VideoSegment(0, (1, 1), Fraction(2)).extend([round(s * NANOSECONDS) for s in seconds])
    assert positions[0].tolist() == [2 * 2 * i // 30 for i in range(500)]


def test_a_floor_per_chunk_is_something_else():
    # The trap: flooring every chunk's own length and adding the floors. It must not pass for the right thing.
    tps, fps = Fraction(2), Fraction(3)
    times = pair_times(fps, 12)
    _, positions = grown(VideoSegment(0, (1, 1), tps), times, [2])
    wrong, offset = [], 0
    for chunk in range(6):
        wrong += [offset + int(tps * 2 * i / fps) for i in range(2)]
        offset += int(tps * 2 * 2 / fps)
        assert chunk or positions[0, :2].tolist() == wrong
    assert positions[0].tolist() != wrong


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("patches", "grid"), [(1, (2, 2)), (40, (1, 3)), (150, (3, 2))])
def test_the_positions_of_transformers(loaded, rate, patches, grid):
    config, (rows, columns) = loaded.native.config, grid
    merge, text = config.vision_config.spatial_merge_size, 5
    visual = patches * rows * columns
    ids = torch.tensor([[1] * text + [config.video_token_id] * visual + [1] * 4])
    kinds = torch.tensor([[0] * text + [2] * visual + [0] * 4])
    native, _ = loaded.native.model.get_rope_index(
        ids,
        mm_token_type_ids=kinds,
        video_grid_thw=torch.tensor([[patches, rows * merge, columns * merge]]),
        second_per_grid_ts=torch.tensor([2 / float(rate)]),
    )
    segment = VideoSegment(text, grid, loaded.adapter.tokens_per_second)
    segment, positions = grown(segment, pair_times(Fraction(rate), patches), [2, 1, 3])
    after = segment.text_start(after_maximum=loaded.adapter.text_after_maximum)
    assert torch.equal(torch.cat((text_positions(0, text), positions, text_positions(after, 4)), dim=1), native[:, 0])


@pytest.mark.parametrize("rate", ["0.6", "1.2", "2", "2.4", "7", "25", "30"])
def test_the_reference_moves_text_alone(loaded, rate):
    # What exactness is measured against: transformers' own positions for video, only the text behind it elsewhere.
    native = NativeModel(loaded.name)
    video = np.zeros((60, 56, 56, 3), np.uint8)
    inputs = native.inputs(native.prompt([user_turn("What?")]), [video], float(rate))
    names = ("input_ids", "mm_token_type_ids", "video_grid_thw", "second_per_grid_ts")
    theirs, _ = native.model.model.get_rope_index(**{name: inputs[name] for name in names})
    moved = native.trained_positions(inputs)
    visual = inputs["mm_token_type_ids"][0] == 2
    assert torch.equal(moved[:, 0, visual], theirs[:, 0, visual])
    end = int(visual.nonzero().max()) + 1
    assert moved[:, 0, end].tolist() == [int(moved[:, 0, :end].max()) + 1] * 3


def test_float32_disagrees_only_where_the_product_is_whole():
    # transformers multiplies in float32 and so, at some rates, falls one short where the exact product is whole.
    short = set()
    for tenths in range(4, 601):
        fps = Fraction(tenths, 10)
        _, positions = VideoSegment(0, (1, 1), Fraction(2)).extend(pair_times(fps, 300))
        native = (torch.arange(300) * (2 * torch.tensor(2 / float(fps)))).long()
        for i in (positions[0] != native).nonzero().flatten().tolist():
            assert int(positions[0, i]) == int(native[i]) + 1 == Fraction(4 * i) / fps
            short.add(float(fps))
    assert not short & {0.5, 1, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 12.5, 15, 20, 24, 25, 30, 50, 60}


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.integers(1, 5 * NANOSECONDS), min_size=1, max_size=20),
    sizes=st.lists(st.integers(1, 7), max_size=10),
    start=st.integers(0, 1000),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    tps=st.sampled_from([None, Fraction(1), Fraction(2), Fraction(25), Fraction(1, 3)]),
)
def test_chunks_never_matter(steps, sizes, start, grid, tps):
    times = [sum(steps[: i + 1]) for i in range(len(steps))]
    empty = VideoSegment(start, grid, tps)
    whole, together = empty.extend(times)
    chunked, apart = grown(empty, times, sizes)
    assert chunked == whole
    assert torch.equal(together, apart)
    assert empty.patches == 0  # segments are values


@given(
    times=st.lists(st.integers(0, 10**13), min_size=1, max_size=30, unique=True).map(sorted),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    start=st.integers(0, 1000),
)
def test_text_starts_behind_the_video(times, grid, start):
    segment, positions = VideoSegment(start, grid, Fraction(2)).extend(times)
    assert segment.text_start(after_maximum=True) == int(positions.max()) + 1
    assert segment.text_start(after_maximum=False) == start + max(grid)


def test_text_bases_differ_only_once_time_overtakes_space():
    segment, _ = VideoSegment(10, (4, 6), Fraction(2)).extend([0, NANOSECONDS])
    assert (segment.text_start(after_maximum=True), segment.text_start(after_maximum=False)) == (16, 16)
    segment, _ = segment.extend([10 * NANOSECONDS])
    assert (segment.text_start(after_maximum=True), segment.text_start(after_maximum=False)) == (31, 16)


def test_without_a_rate_patches_are_counted():
    segment, positions = VideoSegment(3, (1, 2), None).extend([0, 9 * NANOSECONDS])
    _, more = segment.extend([9 * NANOSECONDS + 1])
    assert positions[0].tolist() + more[0].tolist() == [3, 3, 4, 4, 5, 5]


def test_an_empty_segment():
    segment = VideoSegment(7, (2, 3), Fraction(2))
    assert segment.text_start(after_maximum=True) == segment.text_start(after_maximum=False) == 7
    assert segment.tokens_per_patch == 6


def test_text():
    assert text_positions(5, 3).tolist() == [[5, 6, 7]] * 3
    assert text_positions(5, 0).shape == (3, 0)
