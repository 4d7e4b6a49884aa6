"""What a step reads and writes, as one table of numbers that a captured graph finds on the device.

A graph is captured once for a number of rows and tokens. Everything that differs from step to step is in the table:
token ids, positions, lengths, and the addresses of keys and values. A chunk that is added to the video, a buffer that
moved, a row that joined or left change numbers in it; nothing is captured again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_vl_ros.engine.batch_cache import SharedSpan, StepRows
from stream_vl_ros.engine.fused.attention import ITEM, OWN_HEAD, RANGE_HEAD, StepShape

# Fewer tokens than this are no work for a program of their own.
_LEAST = 64


class Table:
    """Named arrays of int64, one after the other: on the host, where they are written, and on the device."""

    def __init__(self, sizes: dict[str, tuple[int, ...]], device: torch.device) -> None:
        """All zeros. `sizes` are the shapes by name, in the order in which they lie in memory."""
        self._pinned = device.type == "cuda"
        total = sum(math.prod(size) for size in sizes.values())
        self._host = torch.zeros(total, dtype=torch.int64, pin_memory=self._pinned)
        self._device = torch.zeros(total, dtype=torch.int64, device=device)
        self._ends: dict[str, int] = {}
        self.host: dict[str, NDArray[np.int64]] = {}
        self.views: dict[str, Tensor] = {}
        start = 0
        for name, size in sizes.items():
            end = start + math.prod(size)
            self.host[name] = self._host[start:end].view(size).numpy()
            self.views[name] = self._device[start:end].view(size)
            self._ends[name] = start = end
        self._copied: Any = torch.cuda.Event() if self._pinned else None

    def begin(self) -> None:
        """Wait until the host's side may be written: a copy of it may still be under way."""
        if self._copied is not None:
            self._copied.synchronize()

    def send(self, last: str | None = None) -> None:
        """Copy everything, or all up to and including `last`, to the device, in the order of the current stream."""
        end = len(self._host) if last is None else self._ends[last]
        self._device[:end].copy_(self._host[:end], non_blocking=True)
        if self._copied is not None:
            self._copied.record()


def sizes(shape: StepShape) -> dict[str, tuple[int, ...]]:
    """What is in the table of a step: first what always changes, then, from `items` on, what seldom does."""
    return {
        "ids": (shape.rows, shape.tokens),
        "positions": (shape.rows, shape.tokens),
        "past": (shape.rows,),  # own tokens of each row before this step
        "fresh": (shape.rows,),  # new tokens of each row; fewer than `shape.tokens` where there is padding
        "slots": (shape.rows,),  # where in the own buffers each row lies
        "items": (shape.splits, ITEM),
        "readers": (shape.ranges, shape.rows),  # 1 where a row reads a range
        "ranges": (shape.ranges, RANGE_HEAD + 2 * shape.layers),
        "own": (OWN_HEAD + 2 * shape.layers,),
    }


def split_evenly(lengths: Sequence[int], splits: int, block: int = _LEAST) -> list[tuple[int, int, int]] | None:
    """Cut ranges into at most `splits` items (range, start, tokens) of about the same size, in whole blocks.

    None if there are more ranges than items.
    """
    present = [(i, n) for i, n in enumerate(lengths) if n]
    if len(present) > splits:
        return None
    each = max(1, -(-sum(n for _, n in present) // (splits * block))) * block
    while sum(-(-n // each) for _, n in present) > splits:
        each += block
    return [(i, start, min(each, n - start)) for i, n in present for start in range(0, n, each)]


class StepPlan:
    """The table of one graph, on the host and on the device."""

    def __init__(self, shape: StepShape, device: torch.device) -> None:
        self.shape = shape
        self._table = Table(sizes(shape), device)
        self.views = self._table.views
        self._layout: tuple[object, ...] = ()

    def can_hold(self, rows: StepRows) -> bool:
        """Whether a step fits: not too many places in memory to read from."""
        spans = [s for s in rows.spans if s.end > s.start]
        return len(rows.past) <= self.shape.rows and len(spans) <= self.shape.ranges

    def write(self, ids: Sequence[Sequence[int]], starts: Sequence[int], rows: StepRows) -> None:
        """Fill in a step and copy what changed to the device, in the order of the current stream.

        Args:
            ids: new tokens of each row.
            starts: position of each row's first one.
            rows: what the rows read, and where their own tokens are; there is room for the new ones.
        """
        self._table.begin()
        v = self._table.host
        v["fresh"][:] = 0
        v["past"][:] = 0
        for row, (tokens, start) in enumerate(zip(ids, starts, strict=True)):
            count = len(tokens)
            v["ids"][row, :count] = tokens
            v["positions"][row, :count] = np.arange(start, start + count)
            v["fresh"][row] = count
        v["past"][: len(rows.past)] = rows.past
        v["slots"][: len(rows.slots)] = rows.slots
        spans = [s for s in rows.spans if s.end > s.start]
        # Strides as well: memory that was given back may come again at the same address, for buffers of another size.
        layout = (
            rows.own_addresses,
            rows.own[0][0].stride()[:OWN_HEAD],
            tuple((s.segment.addresses, s.segment.layers[0][0].stride(1), s.start, s.end, s.readers) for s in spans),
        )
        if layout == self._layout:
            self._table.send(last="slots")
        else:
            self._lay_out(spans, rows)
            self._layout = layout
            self._table.send()

    def _lay_out(self, spans: Sequence[SharedSpan], rows: StepRows) -> None:
        v = self._table.host
        items = split_evenly([s.end - s.start for s in spans], self.shape.splits)
        assert items is not None and len(spans) <= self.shape.ranges, "can_hold()"
        v["items"][:] = 0
        for i, (which, start, count) in enumerate(items):
            v["items"][i] = which, spans[which].start + start, count
        v["readers"][:] = 0
        for i, span in enumerate(spans):
            v["readers"][i, list(span.readers)] = 1
            v["ranges"][i, 0] = span.segment.layers[0][0].stride(1)
            v["ranges"][i, RANGE_HEAD:] = span.segment.addresses
        v["own"][:OWN_HEAD] = rows.own[0][0].stride()[:2]
        v["own"][OWN_HEAD:] = rows.own_addresses
