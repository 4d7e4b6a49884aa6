"""What caches are made of: tokens that several of them may look at."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

# Keys and values of one layer, each (1, kv_heads, tokens, head_dim).
Pair = tuple[Tensor, Tensor]


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

    @functools.cached_property
    def addresses(self) -> tuple[int, ...]:
        """Where the keys and the values of each layer begin in memory."""
        return addresses(self.layers)


@dataclass(frozen=True, eq=False, slots=True)
class Snapshot:
    """A moment of a cache, to go back to with `restore`. Holds views: what it saw stays in memory as long as it lives.

    Attributes:
        segments: the tokens of that moment, in order.
        own: whether the last segment is what the cache itself held.
        shape: of the cache that it was taken from.
        stored: it was read from a file: its tensors are on the CPU, and a cache that goes back to it copies them, laid
            out as they were, so that it goes on bit for bit.
    """

    segments: tuple[Segment, ...]
    own: bool
    shape: CacheShape
    stored: bool = False

    @property
    def length(self) -> int:
        return sum(s.length for s in self.segments)


def addresses(layers: Iterable[Pair]) -> tuple[int, ...]:
    """Where keys and values begin in memory, layer by layer."""
    return tuple(t.data_ptr() for pair in layers for t in pair)


def length_of(segments: tuple[Segment, ...]) -> int:
    """Tokens in all of them."""
    return sum(s.length for s in segments)


def same(a: tuple[Segment, ...], b: tuple[Segment, ...]) -> bool:
    """Whether they are the very same segments."""
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def write(target: Pair, tokens: Pair) -> None:
    """Write tokens to the beginning of larger buffers."""
    for buffer, new in zip(target, tokens, strict=True):
        buffer[:, :, : new.shape[2]] = new


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the memory behind tensors, which some of them may share."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
