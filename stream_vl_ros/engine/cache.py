"""The KV cache: one growing buffer per layer, forks that share it, byte-true accounting.

A `KVCache` holds its own tokens and, in front of them, segments that it shares with the cache it was forked
from. Forking takes views: it copies nothing and costs the same at any length. What a fork sees never
changes, whatever happens to its parent: tokens that a live segment covers are never written again, and a
buffer that must move moves to new memory while segments keep the old one alive.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from stream_vl_ros.engine.attention import KeyValueParts

_cache_ids = itertools.count()


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a model stores per token: sizes, dtype and device of its keys and values."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Segment:
    """Tokens shared between caches: per layer keys and values, each a view (1, kv_heads, length, head_dim)."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    length: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of one cache, to go back to with `restore`. Costs nothing and holds no tensors."""

    cache_id: int
    length: int
    epoch: int


class KVCache(Cache):
    """Keys and values of one sequence, or of several rows that share a beginning.

    Not safe for use from several threads at once: the engine's thread owns it.
    """

    def __init__(
        self, shape: CacheShape, *, base: tuple[Segment, ...] = (), rows: int = 1, initial_capacity: int = 64
    ) -> None:
        super().__init__(layers=[])
        self._id = next(_cache_ids)
        self.shape = shape
        self.rows = rows
        self._base = base
        self._base_length = sum(s.length for s in base)
        self._initial_capacity = initial_capacity
        self._buffers: list[tuple[Tensor, Tensor]] = []  # per layer, (rows, kv_heads, capacity, head_dim), owned
        self._capacity = 0
        self._length = 0
        self._pending = 0
        # Every restore and clear begins an epoch; (epoch, own length it fell back to), both increasing. A snapshot is a
        # past moment as long as no later epoch began with fewer tokens.
        self._epoch = 0
        self._falls: list[tuple[int, int]] = []
        # How many own tokens each living segment taken from the present buffers covers.
        self._exported: weakref.WeakSet[Segment] = weakref.WeakSet()

    # --- size -----------------------------------------------------------------------------------------------

    @property
    def length(self) -> int:
        """Tokens per row, shared ones included."""
        return self._base_length + self._length

    @property
    def own_length(self) -> int:
        """Tokens per row that this cache does not share with its parent."""
        return self._length

    @property
    def memory_bytes(self) -> int:
        """Bytes of the buffers that this cache owns, spare room included; shared segments are their owner's."""
        return sum(t.untyped_storage().nbytes() for pair in self._buffers for t in pair)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """transformers' name for `length`."""
        return self.length

    # --- growing --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def extend(self, tokens: int) -> Iterator[None]:
        """Run one forward pass of `tokens` new tokens inside. They count only if it ends without an exception."""
        self._reserve(tokens)
        self._pending = tokens
        try:
            yield
            self._length += tokens
        finally:
            self._pending = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[KeyValueParts, KeyValueParts]:
        """Called by transformers' attention layers: store the new tokens, return all that they attend to."""
        tokens = key_states.shape[2]
        if tokens != self._pending:
            raise RuntimeError(f"forward pass of {tokens} tokens outside of extend({self._pending})")
        keys, values = self._buffers[layer_idx]
        start, end = self._length, self._length + tokens
        keys[:, :, start:end] = key_states
        values[:, :, start:end] = value_states
        parts = KeyValueParts(
            shared=tuple(s.layers[layer_idx] for s in self._base),
            own=(keys[:, :, :end], values[:, :, :end]),
            past=start,
        )
        return parts, parts

    def _reserve(self, tokens: int) -> None:
        needed = self._length + tokens
        overwrites_shared = any(s.length > self._length for s in self._exported)
        if needed <= self._capacity and not overwrites_shared:
            return
        capacity = self._capacity
        if needed > capacity:
            # Half as much again: each token is copied twice on average, and a third is spare at the most.
            capacity = max(needed, capacity + capacity // 2, self._initial_capacity)
        s = self.shape
        size = (self.rows, s.kv_heads, capacity, s.head_dim)
        buffers = []
        for layer in range(s.layers):
            pair = (
                torch.empty(size, dtype=s.dtype, device=s.device),
                torch.empty(size, dtype=s.dtype, device=s.device),
            )
            if self._length:
                for new, old in zip(pair, self._buffers[layer], strict=True):
                    new[:, :, : self._length] = old[:, :, : self._length]
            buffers.append(pair)
        self._buffers, self._capacity = buffers, capacity
        self._exported = weakref.WeakSet()

    # --- sharing --------------------------------------------------------------------------------------------

    def fork(self, rows: int = 1, *, initial_capacity: int = 64) -> KVCache:
        """A cache that starts with everything in this one and grows on its own. Copies nothing.

        `rows` sequences may grow side by side from here; a cache of several rows cannot be forked again.
        """
        if self.rows != 1:
            raise ValueError(f"a cache of {self.rows} rows cannot be forked; fork the one it came from")
        base = self._base
        if self._length:
            segment = Segment(
                tuple((k[:, :, : self._length], v[:, :, : self._length]) for k, v in self._buffers), self._length
            )
            self._exported.add(segment)
            base = (*base, segment)
        return KVCache(self.shape, base=base, rows=rows, initial_capacity=initial_capacity)

    def clone(self) -> KVCache:
        """A cache with the same contents that shares no memory with this one."""
        copy = KVCache(self.shape, rows=self.rows, initial_capacity=self._initial_capacity)
        if not self.length:
            return copy
        copy._reserve(self.length)
        for layer in range(self.shape.layers):
            for which, buffer in enumerate(copy._buffers[layer]):
                buffer[:, :, : self.length] = self._tokens(layer, which)
        copy._length = self.length
        return copy

    def snapshot(self) -> Snapshot:
        """This moment, for `restore`."""
        return Snapshot(self._id, self._length, self._epoch)

    def restore(self, snapshot: Snapshot) -> None:
        """Forget the own tokens that came after `snapshot`. Living forks keep what they see.

        Raises ValueError for a snapshot of another cache, or one from before a `clear`.
        """
        lowest = next((n for epoch, n in self._falls if epoch > snapshot.epoch), self._length)
        if snapshot.cache_id != self._id or snapshot.length > min(lowest, self._length):
            raise ValueError(
                f"snapshot of {snapshot.length} tokens is not a past moment of this cache ({self._length} tokens); "
                "it was cleared, or went back further, since then"
            )
        if snapshot.length < self._length:
            self._fall(snapshot.length)

    def clear(self) -> None:
        """Forget all own tokens and free their memory; living forks keep what they see."""
        self._fall(-1)  # not even a snapshot of no tokens is from this side of it
        self._buffers, self._capacity, self._length = [], 0, 0
        self._exported = weakref.WeakSet()

    def _fall(self, length: int) -> None:
        self._epoch += 1
        self._falls = [*((e, n) for e, n in self._falls if n < length), (self._epoch, length)]
        self._length = length

    def discard(self) -> None:
        """Free everything, and let go of what was shared. The cache is empty afterwards."""
        self.clear()
        self._base, self._base_length = (), 0

    # --- looking --------------------------------------------------------------------------------------------

    def attention_mask(self) -> Tensor:
        """Which tokens a next token would see: ones, int64 of shape (rows, length), shared and own ones."""
        return torch.ones(self.rows, self.length, dtype=torch.int64, device=self.shape.device)

    def layer_tokens(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of one layer in order, each a copy of shape (rows, kv_heads, length, head_dim)."""
        return self._tokens(layer, 0), self._tokens(layer, 1)

    def _tokens(self, layer: int, which: int) -> Tensor:
        own = [self._buffers[layer][which][:, :, : self._length]] if self._length else []
        shared = [s.layers[layer][which].expand(self.rows, -1, -1, -1) for s in self._base]
        return torch.cat([*shared, *own], dim=2)

    def signature(self) -> str:
        """SHA-256 over length and contents, in hex: equal if and only if the cached tokens are bit-identical."""
        digest = hashlib.sha256(f"{self.rows},{self.length},{self.shape.dtype}".encode())
        if self.length:
            for layer in range(self.shape.layers):
                for tensor in self.layer_tokens(layer):
                    digest.update(tensor.contiguous().view(torch.uint8).cpu().numpy().tobytes())
        return digest.hexdigest()
