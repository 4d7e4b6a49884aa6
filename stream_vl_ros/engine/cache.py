"""The KV cache: one growing buffer per layer, forks that share it, byte-true accounting.

A `KVCache` holds its own tokens and, in front of them, segments that it shares with other caches. Forks and
snapshots take views: they copy nothing and cost the same at any length. What they see never changes,
whatever happens to the cache they came from: tokens that a living segment covers are never written again, and a
buffer that must move, or is rewritten, moves to new memory while segments keep the old one alive.
"""

from __future__ import annotations

import contextlib
import hashlib
import weakref
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from stream_vl_ros.engine.attention import KeyValueParts, SharedRange
from stream_vl_ros.engine.segments import CacheShape, Pair, Segment, Snapshot, bytes_of, length_of, same, write
from stream_vl_ros.errors import CacheError

# Bytes up to which the memory of all layers is allocated as one, on a GPU.
_SMALL = 16 * 2**20


class KVCache(Cache):
    """Keys and values of one sequence, or of several rows that share a beginning.

    Not safe for use from several threads at once: the engine's thread owns it.
    """

    def __init__(
        self,
        shape: CacheShape,
        *,
        base: tuple[Segment, ...] = (),
        rows: int = 1,
        initial_capacity: int = 64,
        max_capacity: int | None = None,
    ) -> None:
        """An empty cache, or one that begins with shared tokens.

        Args:
            shape: what the model stores per token.
            base: tokens that it begins with and shares.
            rows: sequences that grow side by side.
            initial_capacity: own tokens that there is room for when the first one comes.
            max_capacity: own tokens beyond which no spare room is allocated; None for no such bound.
        """
        super().__init__(layers=[])
        self.shape = shape
        self.rows = rows
        self._origin = base
        self._base = base
        self._base_length = length_of(base)
        self._initial_capacity = initial_capacity
        self._max_capacity = max_capacity
        self._buffers: list[Pair] = []  # per layer, (rows, kv_heads, capacity, head_dim), owned
        self._capacity = 0
        self._length = 0
        self._pending = 0
        self.changes = 0  # grows with every call that changes tokens, or where they lie
        # Living segments taken from the present buffers, and from those that were given up since.
        self._exported: weakref.WeakSet[Segment] = weakref.WeakSet()
        self._retired: weakref.WeakSet[Segment] = weakref.WeakSet()

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
    def own_bytes(self) -> int:
        """Bytes of the buffers that this cache alone owns, spare room included."""
        return bytes_of(t for pair in self._buffers for t in pair)

    @property
    def memory_bytes(self) -> int:
        """Bytes of all memory that this cache keeps allocated: its own buffers, and those of its shared tokens."""
        shared = (t for segment in self._base for pair in segment.layers for t in pair)
        return bytes_of([*(t for pair in self._buffers for t in pair), *shared])

    @property
    def pinned_bytes(self) -> int:
        """Bytes of buffers that this cache gave up, but living forks or snapshots still hold."""
        present = {t.untyped_storage().data_ptr() for pair in self._buffers for t in pair}
        held = (t for segment in self._retired for pair in segment.layers for t in pair)
        return bytes_of(t for t in held if t.untyped_storage().data_ptr() not in present)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """transformers' name for `length`."""
        return self.length

    # --- growing --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def extend(self, tokens: int) -> Iterator[None]:
        """Run one forward pass of `tokens` new tokens inside. They count only if it ends without an exception."""
        self.changes += 1
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
            shared=tuple(SharedRange(*s.layers[layer_idx]) for s in self._base),
            own=(keys[:, :, :end], values[:, :, :end]),
            past=start,
        )
        return parts, parts

    def append(self, layers: Sequence[Pair]) -> None:
        """Add tokens whose keys and values are known already, for example from another cache.

        Args:
            layers: per layer keys and values, each (rows, kv_heads, new tokens, head_dim) in the cache's dtype; copied.

        Raises:
            ValueError: if they are not shaped or typed like this cache's own; it is as it was then.
        """
        s, tokens = self.shape, layers[0][0].shape[2] if layers else 0
        size = (self.rows, s.kv_heads, tokens, s.head_dim)
        if len(layers) != s.layers or any(t.shape != size or t.dtype != s.dtype for pair in layers for t in pair):
            raise ValueError(
                f"tokens to append must be {s.layers} pairs of {s.dtype} tensors, each (rows, ...) = {size}"
            )
        with self.extend(tokens):
            for layer, pair in enumerate(layers):
                self.update(*pair, layer)

    def resize(self, capacity: int | None) -> None:
        """Have room for `capacity` own tokens, or for those that there are if they are more, and no spare room beyond.

        None lifts the bound and leaves the room as it is. Forks keep what they see. Nothing changes if memory runs out.
        """
        if capacity is not None:
            target = max(capacity, self._length)
            if target != self._capacity:
                self._move(target)
            self._initial_capacity = capacity
        self._max_capacity = capacity

    def has_room(self, tokens: int) -> bool:
        """Whether so many more may be kept within the bound."""
        return self._max_capacity is None or self._length + tokens <= self._max_capacity

    def bound(self, capacity: int | None) -> None:
        """As `resize`, but no memory is allocated, or given back, before there is need for more."""
        if capacity is not None:
            self._initial_capacity = capacity
        self._max_capacity = capacity

    def has_spare(self, tokens: int) -> bool:
        """Whether memory for so many more than the running pass adds lies behind the own tokens, seen by nobody."""
        return self._length + self._pending + tokens <= self._capacity

    def _reserve(self, tokens: int) -> None:
        needed = self._length + tokens
        overwrites_shared = any(s.length > self._length for s in self._exported)
        if needed <= self._capacity and not overwrites_shared:
            return
        capacity = self._capacity
        if needed > capacity:
            # Half as much again: each token is copied twice on average, and a third is spare at the most.
            roomy = max(capacity + capacity // 2, self._initial_capacity)
            capacity = max(needed, roomy if self._max_capacity is None else min(roomy, self._max_capacity))
        self._move(capacity)

    def _move(self, capacity: int) -> None:
        """Into new buffers."""
        self.changes += 1
        buffers = self._new_buffers(capacity)
        if self._length:
            for layer, pair in enumerate(buffers):
                write(pair, self.own_tokens(layer))
        self._retire()
        self._buffers, self._capacity = buffers, capacity

    def _new_buffers(self, capacity: int) -> list[Pair]:
        s = self.shape
        if s.device.type != "cuda" or self.rows * capacity * s.bytes_per_token > _SMALL:
            return [self._new_pair(capacity) for _ in range(s.layers)]
        # A fork's few tokens: one allocation instead of two for each layer, which take as long as the fork itself.
        size = (s.layers, 2, self.rows, s.kv_heads, capacity, s.head_dim)
        whole = torch.empty(size, dtype=s.dtype, device=s.device)
        return [(pair[0], pair[1]) for pair in whole.unbind()]

    def _new_pair(self, capacity: int) -> Pair:
        s = self.shape
        size = (self.rows, s.kv_heads, capacity, s.head_dim)
        return torch.empty(size, dtype=s.dtype, device=s.device), torch.empty(size, dtype=s.dtype, device=s.device)

    def _retire(self) -> None:
        self._retired |= self._exported
        self._exported = weakref.WeakSet()

    def rewrite(self, length: int, make: Callable[[int, Tensor, Tensor], Pair], *, shrink: bool = False) -> None:
        """Replace everything in this cache, the shared tokens too, by `length` other tokens: eviction and the like.

        Forks and snapshots keep what they see. The buffers are used again if nothing else looks at them, otherwise new
        ones are made.

        Args:
            length: tokens afterwards.
            make: called per layer with its index, keys and values, each (1, kv_heads, tokens, head_dim); returns the
                new ones, (1, kv_heads, length, head_dim), in memory of their own.
            shrink: give memory back that `length` tokens do not need.

        Raises:
            CacheError: if it failed after tokens were overwritten; the cache is empty then. Whatever `make` raises for
                the first layer leaves the cache as it was.
        """
        if self.rows != 1:
            raise ValueError(f"a cache of {self.rows} rows cannot be rewritten")
        self.changes += 1
        capacity = length if shrink else max(length, self._capacity, self._initial_capacity)
        if self._max_capacity is not None:  # a memory that was gone back to may have been larger
            capacity = max(length, min(capacity, self._max_capacity))
        if self._base or self._exported or not self._buffers:
            # What others look at stays allocated anyhow: nothing is lost by keeping it until all is done.
            buffers = []
            for layer in range(self.shape.layers):
                buffers.append(self._new_pair(capacity))
                write(buffers[-1], make(layer, *self._views(layer)))
            self._retire()
            self._buffers = buffers
        else:
            self._overwrite(make, capacity)
        self._capacity = capacity
        self._base, self._base_length, self._length = (), 0, length

    def _overwrite(self, make: Callable[[int, Tensor, Tensor], Pair], capacity: int) -> None:
        made = make(0, *self._views(0))
        touched = False
        try:
            for layer in range(self.shape.layers):
                if layer:
                    made = make(layer, *self._views(layer))
                target = self._buffers[layer] if capacity == self._capacity else self._new_pair(capacity)
                touched = True
                write(target, made)
                self._buffers[layer] = target
        except BaseException as error:
            if not touched:
                raise
            self.discard()
            raise CacheError(
                f"the cache was lost while it was rewritten: {type(error).__name__}: {error}; it is empty now"
            ) from error

    def truncate(self, length: int) -> None:
        """Forget the own tokens behind the first `length` tokens, shared ones counted. Forks keep what they see.

        Raises ValueError if that many tokens are not there, or if shared ones would have to go.
        """
        if not self._base_length <= length <= self.length:
            raise ValueError(f"length={length}: must be between {self._base_length} (shared) and {self.length}")
        self.changes += 1
        self._length = length - self._base_length

    # --- sharing --------------------------------------------------------------------------------------------

    def fork(self, rows: int = 1, *, initial_capacity: int = 64) -> KVCache:
        """A cache that starts with everything in this one and grows on its own. Copies nothing.

        `rows` sequences may grow side by side from here; a cache of several rows cannot be forked again.
        """
        if self.rows != 1:
            raise ValueError(f"a cache of {self.rows} rows cannot be forked; fork the one it came from")
        return KVCache(self.shape, base=self._segments(), rows=rows, initial_capacity=initial_capacity)

    def _segments(self) -> tuple[Segment, ...]:
        if not self._length:
            return self._base
        for segment in self._exported:
            if segment.length == self._length:
                return (*self._base, segment)
        segment = Segment(
            tuple((k[:, :, : self._length], v[:, :, : self._length]) for k, v in self._buffers), self._length
        )
        self._exported.add(segment)
        return (*self._base, segment)

    def clone(self) -> KVCache:
        """A cache with the same contents that shares no memory with this one."""
        copy = KVCache(
            self.shape,
            rows=self.rows,
            initial_capacity=self._initial_capacity,
            max_capacity=self._max_capacity,
        )
        if not self.length:
            return copy
        copy._reserve(self.length)
        for layer in range(self.shape.layers):
            write(copy._buffers[layer], self.layer_tokens(layer))
        copy._length = self.length
        return copy

    def snapshot(self) -> Snapshot:
        """This moment, for `restore`. It stays valid whatever happens to the cache."""
        if self.rows != 1:
            raise ValueError(f"no snapshots of a cache of {self.rows} rows; take them of the one it came from")
        return Snapshot(self._segments(), self._length > 0, self.shape)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a moment, or to one of another cache of the same model. Living forks keep what they see.

        Raises ValueError for a snapshot of another model's cache. Nothing changes then, nor if memory runs out.
        """
        if snapshot.shape != self.shape or self.rows != 1:
            raise ValueError(f"snapshot of {snapshot.shape} cannot be restored into a cache of {self.shape}")
        self.changes += 1
        if snapshot.stored:
            self._take_in(snapshot)
            return
        base = snapshot.segments[:-1] if snapshot.own else snapshot.segments
        at_home = snapshot.segments[-1] in self._exported if snapshot.own else True
        if at_home and same(base, self._base):
            self._length = snapshot.segments[-1].length if snapshot.own else 0
            return
        self._drop_buffers()
        self._base, self._base_length = snapshot.segments, snapshot.length

    def _take_in(self, snapshot: Snapshot) -> None:
        """Go on from tokens of a file."""
        device, count = self.shape.device, len(snapshot.segments) - snapshot.own
        base = tuple(
            Segment(tuple((keys.to(device), values.to(device)) for keys, values in s.layers), s.length)
            for s in snapshot.segments[:count]
        )
        buffers, length, capacity = [], 0, 0
        if snapshot.own:
            last = snapshot.segments[-1]
            length, capacity = last.length, max(last.length, self._initial_capacity)
            buffers = self._new_buffers(capacity)
            for buffer, pair in zip(buffers, last.layers, strict=True):
                write(buffer, pair)
        self._retire()
        self._buffers, self._capacity, self._length = buffers, capacity, length
        self._base, self._base_length = base, length_of(base)

    def clear(self) -> None:
        """Forget all own tokens and free their memory: a fork is back where it was taken.

        Living forks keep what they see.
        """
        self._drop_buffers()
        self._base, self._base_length = self._origin, length_of(self._origin)

    def discard(self) -> None:
        """Free everything, and let go of what was shared. The cache is empty afterwards."""
        self._origin = ()
        self.clear()

    def _drop_buffers(self) -> None:
        self.changes += 1
        self._retire()
        self._buffers, self._capacity, self._length = [], 0, 0

    # --- looking --------------------------------------------------------------------------------------------

    def attention_mask(self, tail: int = 0) -> Tensor:
        """Which tokens the last of `tail` new ones sees: ones, int64 of shape (rows, length + tail).

        It covers prefix and tail: shared tokens, own ones, and those of the forward pass that it is for. The engine
        itself needs none; this is for other code that runs the model on this cache.
        """
        return torch.ones(self.rows, self.length + tail, dtype=torch.int64, device=self.shape.device)

    def layer_tokens(self, layer: int) -> Pair:
        """Keys and values of one layer in order, each a copy of shape (rows, kv_heads, length, head_dim)."""
        return self._joined(layer, 0), self._joined(layer, 1)

    def own_tokens(self, layer: int) -> Pair:
        """Keys and values of one layer that are not shared: views, (rows, kv_heads, own_length, head_dim)."""
        keys, values = self._buffers[layer]
        return keys[:, :, : self._length], values[:, :, : self._length]

    @property
    def buffers(self) -> Sequence[Pair]:
        """Per layer the memory of the own tokens, each (rows, kv_heads, capacity, head_dim), to be written into."""
        return self._buffers

    @property
    def shared(self) -> tuple[Segment, ...]:
        """The tokens in front of the own ones."""
        return self._base

    def _views(self, layer: int) -> Pair:
        return self.layer_tokens(layer) if self._base or not self._length else self.own_tokens(layer)

    def _joined(self, layer: int, which: int) -> Tensor:
        own = [self._buffers[layer][which][:, :, : self._length]] if self._length else []
        shared = [s.layers[layer][which].expand(self.rows, -1, -1, -1) for s in self._base]
        if not own and not shared:
            return self._new_pair(0)[0]
        return torch.cat([*shared, *own], dim=2)

    def signature(self) -> str:
        """SHA-256 over length and contents, in hex: equal if and only if the cached tokens are bit-identical."""
        digest = hashlib.sha256(f"{self.rows},{self.length},{self.shape.dtype}".encode())
        if self.length:
            for layer in range(self.shape.layers):
                for tensor in self.layer_tokens(layer):
                    digest.update(tensor.contiguous().view(torch.uint8).cpu().numpy().tobytes())
        return digest.hexdigest()
