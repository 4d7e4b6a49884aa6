"""How the work of chunk attention is cut into programs.

A program takes a tile of queries of one head over a part of one range of keys. Cutting along the keys fills a GPU whose
last round of programs would leave most multiprocessors idle, and costs a pass that joins the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from heapq import heapreplace
from typing import NamedTuple

from stream_vl_ros.engine.fused.toolkit import cdiv

# Range (0 for the own tokens, then the shared ones), which part of it, of how many.
Item = tuple[int, int, int]
MOST_SPLITS = 3
# What a program costs besides its keys, and what joining costs for each part and for the result: in keys that a program
# could have passed meanwhile, as measured on an H100.
_START, _JOIN = 350, 260


class Work(NamedTuple):
    """Attention of new tokens, the last ones of the first range."""

    tokens: int
    heads: int
    queries: int  # of a program
    keys: int  # of a block

    @property
    def tiles(self) -> int:
        return cdiv(self.tokens, self.queries)


def cut(lengths: Sequence[int], splits: int, most: int) -> list[Item] | None:
    """Cut ranges into about `splits` parts of about the same size, in all at most `most`.

    Empty ranges get none, the first one always one. None if there are more ranges than parts.
    """
    present = [i for i, n in enumerate(lengths) if n or i == 0]
    if len(present) > most:
        return None
    total = max(1, sum(lengths))
    parts = {i: max(1, round(splits * lengths[i] / total)) for i in present}
    while sum(parts.values()) > most:
        parts[max(parts, key=lambda i: parts[i])] -= 1
    return [(i, part, count) for i, count in parts.items() for part in range(count)]


@lru_cache(64)  # the same for all layers
def best_cut(lengths: tuple[int, ...], work: Work, slots: int, most: int = MOST_SPLITS) -> tuple[Item, ...] | None:
    """The cut that is done first on so many multiprocessors; None if there are more ranges than parts."""
    cuts = [tuple(items) for splits in range(1, most + 1) if (items := cut(lengths, splits, most)) is not None]
    return min(cuts, key=lambda items: _duration(lengths, items, work, slots), default=None)


def _duration(lengths: Sequence[int], items: Sequence[Item], work: Work, slots: int) -> int:
    """Keys that the busiest multiprocessor passes, when each takes the next program as soon as it is free.

    The programs start in the order in which the kernels number them, which is that of
    `Graham 1969 <https://doi.org/10.1137/0117039>`_ for one range: the longest ones first.
    """
    ends = [0] * slots
    past = lengths[0] - work.tokens
    for which, part, splits in items:
        for tile in reversed(range(work.tiles)):
            seen = lengths[which] if which else past + min(work.tokens, (tile + 1) * work.queries)
            blocks = cdiv(seen, work.keys)
            each = cdiv(blocks, splits)
            keys = max(0, min(blocks - part * each, each)) * work.keys
            if keys:
                for _ in range(work.heads):
                    heapreplace(ends, ends[0] + keys + _START)
    return max(ends) + (_JOIN * (len(items) + 1) if len(items) > 1 else 0)
