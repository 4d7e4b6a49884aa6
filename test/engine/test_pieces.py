"""How chunk attention is cut."""

from __future__ import annotations

import pytest

from stream_vl_ros.engine.fused.pieces import Work, best_cut, cut

SLOTS = 132  # multiprocessors of an H100


@pytest.mark.parametrize(
    ("lengths", "splits", "expected"),
    [
        ([0], 1, [(0, 0, 1)]),
        ([900, 0], 3, [(0, 0, 3), (0, 1, 3), (0, 2, 3)]),
        ([10, 990], 2, [(0, 0, 1), (1, 0, 2), (1, 1, 2)]),
        ([10, 990, 500], 3, [(0, 0, 1), (1, 0, 1), (2, 0, 1)]),
        ([10, 20, 30, 40], 3, None),
    ],
)
def test_ranges_are_cut(lengths, splits, expected):
    assert cut(lengths, splits, 3) == expected


@pytest.mark.parametrize(
    ("tokens", "lengths", "parts"),
    [
        # 304 programs of 3 to 21 blocks: the long ones first, the short ones fill up.
        (2392, [2392], [1]),
        # All about equally long: 304 are 2.3 rounds of which the last is mostly idle, 912 are 6.9.
        (2392, [59_800], [3]),
        # 16 programs for 132 multiprocessors.
        (64, [50_064], [3]),
        # So short that joining would take longer.
        (64, [300], [1]),
        # The parts go to the long range.
        (400, [400, 20_000], [1, 2]),
        (400, [400, 20_000, 20_000], [1, 1, 1]),
    ],
)
def test_the_cut_fills_the_chip(tokens, lengths, parts):
    items = best_cut(tuple(lengths), Work(tokens, 16, 128, 128), SLOTS)
    assert items == tuple((i, part, n) for i, n in enumerate(parts) for part in range(n))


def test_a_graph_may_be_larger_than_what_it_reads():
    assert best_cut((40,), Work(2392, 16, 128, 128), SLOTS) == ((0, 0, 1),)


def test_more_ranges_than_parts():
    assert best_cut((10, 20, 30, 40), Work(64, 16, 128, 128), SLOTS) is None
