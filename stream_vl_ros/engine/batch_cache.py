"""The KV cache of a running batch: rows that came at different moments, each on top of what it shares with others.

A token that several rows share is read once per step, however many they are: rows that were forked from one
stream at different moments share its beginning up to the earliest of them, and so on. Rows may join and leave at any
step. The shared tokens stay where they are; each row's own tokens (its question and answer) lie side by side in one
buffer, so that a step writes and reads all rows at once.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from stream_vl_ros.engine.attention import KeyValueParts, SharedRange
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.segments import CacheShape, Pair, Segment, addresses

# Own tokens that there is room for at first: an ordinary question and the answer to it.
_INITIAL_CAPACITY = 96


@dataclass(slots=True)
class _Row:
    segments: tuple[Segment, ...]
    length: int  # own tokens


@dataclass(frozen=True, slots=True)
class SharedSpan:
    """Tokens `start` to `end` of a segment, and the indices of the rows that read them."""

    segment: Segment
    start: int
    end: int
    readers: tuple[int, ...]

    def of_layer(self, layer: int, rows: Tensor | None) -> SharedRange:
        """The keys and values of one layer; `rows` as in `SharedRange`."""
        key, value = self.segment.layers[layer]
        return SharedRange(key[:, :, self.start : self.end], value[:, :, self.start : self.end], rows)


@dataclass(frozen=True, slots=True)
class StepRows:
    """What the rows of a running forward pass read and write.

    Attributes:
        spans: what they share.
        own: per layer the keys and values of the rows alone, each (slots, kv_heads, capacity, head_dim), with room for
            the new tokens.
        slots: where in those each row lies.
        past: own tokens that each row had before.
        own_addresses: where the keys and the values of each layer's `own` begin.
    """

    spans: Sequence[SharedSpan]
    own: Sequence[Pair]
    slots: Sequence[int]
    past: Sequence[int]
    own_addresses: tuple[int, ...]


def step_rows(cache: KVCache | BatchCache) -> StepRows:
    """Of a cache with a forward pass running (`extend`)."""
    if isinstance(cache, BatchCache):
        return cache.step_rows()
    assert cache.rows == 1
    own = cache.buffers
    return StepRows(plan_reads([cache.shared]), own, (0,), (cache.own_length,), addresses(own))


def plan_reads(rows: Sequence[tuple[Segment, ...]]) -> list[SharedSpan]:
    """What to read so that every row sees all its segments and no token is read twice.

    Segments that begin at the same place in memory hold the same tokens as far as the shorter one goes: what a living
    segment covers is never written again.
    """
    places: dict[int, list[tuple[int, int, Segment]]] = defaultdict(list)
    for index, segments in enumerate(rows):
        for segment in segments:
            places[segment.layers[0][0].data_ptr()].append((segment.length, index, segment))
    spans = []
    for entries in places.values():
        start = 0
        for end in sorted({length for length, _, _ in entries}):
            readers = [(index, segment) for length, index, segment in entries if length >= end]
            spans.append(SharedSpan(readers[0][1], start, end, tuple(index for index, _ in readers)))
            start = end
    return spans


class BatchCache(Cache):
    """Keys and values of the rows of a running batch. Used on the engine's thread."""

    def __init__(self, shape: CacheShape) -> None:
        super().__init__(layers=[])
        self.shape = shape
        self._rows: list[_Row] = []
        self._buffers: list[Pair] = []  # per layer, (slots, kv_heads, capacity, head_dim), owned; row i lies in slot i
        self._addresses: tuple[int, ...] = ()  # of the buffers, once asked for
        self._active: tuple[int, ...] = ()
        self.changes = 0  # grows with every call that changes tokens, or where they lie
        self._shared: dict[tuple[int, ...], list[tuple[SharedRange, ...]]] = {}  # per set of active rows and layer
        self._spans: dict[tuple[int, ...], list[SharedSpan]] = {}  # per set of active rows
        # Of the forward pass that is running: its rows, and how many own tokens each had; empty outside of one.
        self._running: tuple[int, ...] = ()
        self._lengths: list[int] = []
        self._slots: Tensor | None = None
        self._ends: Tensor | None = None

    @property
    def rows(self) -> int:
        return len(self._rows)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the rows' own tokens, spare room included; what they share is its owner's."""
        return sum(t.untyped_storage().nbytes() for pair in self._buffers for t in pair)

    def length(self, row: int) -> int:
        """Tokens of a row, shared ones included."""
        return sum(s.length for s in self._rows[row].segments) + self._rows[row].length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """transformers' name for the length of the longest row."""
        return max((self.length(i) for i in range(self.rows)), default=0)

    @torch.inference_mode()
    def join(self, cache: KVCache) -> None:
        """Add a row with the contents of `cache`: shared tokens stay shared, its own ones are copied."""
        assert cache.rows == 1
        self.changes += 1
        self._reserve(self.rows + 1, max([r.length for r in self._rows] + [cache.own_length]) + 1)
        slot = self.rows
        if cache.own_length:
            for layer, buffers in enumerate(self._buffers):
                for buffer, tokens in zip(buffers, cache.own_tokens(layer), strict=True):
                    buffer[slot, :, : cache.own_length] = tokens[0]
        self._rows.append(_Row(cache.shared, cache.own_length))
        self._shared, self._spans = {}, {}

    @torch.inference_mode()
    def leave(self, row: int) -> None:
        """Remove a row; the last one takes its index. The last to leave frees all memory."""
        self.changes += 1
        last = self.rows - 1
        if row != last:
            length = self._rows[last].length
            for pair in self._buffers:
                for buffer in pair:
                    buffer[row, :, :length] = buffer[last, :, :length]
            self._rows[row] = self._rows[last]
        self._rows.pop()
        self._shared, self._spans = {}, {}
        if not self._rows:
            self._buffers, self._addresses = [], ()

    @contextlib.contextmanager
    def only(self, rows: Sequence[int]) -> Iterator[None]:
        """Let forward passes inside run these rows, in this order; the others stay as they are."""
        self._active = tuple(rows)
        try:
            yield
        finally:
            self._active = ()

    @contextlib.contextmanager
    def extend(self, tokens: int) -> Iterator[None]:
        """Run one forward pass of one new token per row inside. It counts only if it ends without an exception."""
        if tokens != 1:
            raise ValueError(f"{tokens} tokens per row: a batch is fed one at a time")
        self.changes += 1
        rows = self._active or tuple(range(self.rows))
        self._lengths = [self._rows[i].length for i in rows]
        self._reserve(self.rows, max(self._lengths) + 1)
        if rows not in self._spans:
            self._spans[rows] = plan_reads([self._rows[i].segments for i in rows])
        self._running = rows
        try:
            yield
            for i in rows:
                self._rows[i].length += 1
        finally:
            self._running, self._lengths = (), []
            self._slots = self._ends = None

    def has_spare(self, tokens: int) -> bool:
        """Whether memory for so many more than the running pass adds lies behind the tokens of each row."""
        return max(self._lengths) + 1 + tokens <= self._buffers[0][0].shape[2]

    def step_rows(self) -> StepRows:
        """Of the running pass; a pass that uses this does not call `update`."""
        if not self._addresses:
            self._addresses = addresses(self._buffers)
        return StepRows(self._spans[self._running], self._buffers, self._running, self._lengths, self._addresses)

    @torch.inference_mode()
    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[KeyValueParts, KeyValueParts]:
        """Called by transformers' attention layers: store each row's new token, return all that the rows attend to."""
        if not self._running:
            raise RuntimeError("forward pass outside of extend()")
        buffers, rows = self._buffers[layer_idx], self._running
        if self._slots is None or self._ends is None:
            self._slots = torch.tensor(rows, device=self.shape.device)
            self._ends = torch.tensor(self._lengths, device=self.shape.device)
        if rows not in self._shared:
            self._shared[rows] = self._ranges(rows)
        for buffer, new in zip(buffers, (key_states, value_states), strict=True):
            buffer[self._slots, :, self._ends] = new[:, :, 0]
        longest = max(self._lengths) + 1
        even = min(self._lengths) + 1 == longest
        in_order = rows == tuple(range(len(rows)))
        own = tuple(b[: len(rows)] if in_order else b[self._slots] for b in buffers)
        parts = KeyValueParts(
            shared=self._shared[rows][layer_idx],
            own=(own[0][:, :, :longest], own[1][:, :, :longest]),
            past=longest - 1,
            lengths=None if even else self._ends + 1,
        )
        return parts, parts

    def _ranges(self, rows: tuple[int, ...]) -> list[tuple[SharedRange, ...]]:
        spans = self._spans[rows]
        readers = [
            None if len(s.readers) == len(rows) else torch.tensor(s.readers, device=self.shape.device) for s in spans
        ]
        return [
            tuple(s.of_layer(layer, read_by) for s, read_by in zip(spans, readers, strict=True))
            for layer in range(self.shape.layers)
        ]

    def _reserve(self, slots: int, tokens: int) -> None:
        had_slots, had_tokens = self._buffers[0][0].shape[::2] if self._buffers else (0, 0)
        if slots <= had_slots and tokens <= had_tokens:
            return
        slots = max(slots, 2 * had_slots) if slots > had_slots else had_slots
        roomy = max(had_tokens + had_tokens // 2, _INITIAL_CAPACITY)
        capacity = max(tokens, roomy) if tokens > had_tokens else had_tokens
        s = self.shape
        buffers = []
        for layer in range(s.layers):
            # Zeros: what lies behind the end of a shorter row has weight 0 in its attention, and 0 times NaN is NaN.
            size = (slots, s.kv_heads, capacity, s.head_dim)
            pair = (
                torch.zeros(size, dtype=s.dtype, device=s.device),
                torch.zeros(size, dtype=s.dtype, device=s.device),
            )
            if self._buffers:
                for new, old in zip(pair, self._buffers[layer], strict=True):
                    new[:had_slots, :, :had_tokens] = old
            buffers.append(pair)
        self._buffers, self._addresses = buffers, ()
