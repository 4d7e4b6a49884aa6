"""Attention within many short ranges of one long sequence: the windows of a picture, or whole pictures."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where the ranges begin and end.

    Attributes:
        offsets: int32 (ranges + 1,), on the device.
        lengths: of each range.
    """

    offsets: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, offsets: Sequence[int], device: torch.device) -> Bounds:
        """From the offsets, of which the last one is the length of the sequence."""
        lengths = tuple(b - a for a, b in itertools.pairwise(offsets))
        return cls(torch.tensor(offsets, dtype=torch.int32, device=device), lengths)

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def even(self) -> bool:
        """Whether all have the same length."""
        return len(set(self.lengths)) == 1


def attend_within(query: Tensor, key: Tensor, value: Tensor, bounds: Bounds, scale: float) -> Tensor:
    """Attention of every token to those of its own range, not causal.

    Args:
        query, key, value: (tokens, heads, dim), strided as they like but for the last dimension.

    Returns:
        (tokens, heads, dim), contiguous.
    """
    if bounds.even:
        return _batched(query, key, value, len(bounds.lengths), scale)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] % 8 == 0:
        longest = bounds.longest
        out, *_ = torch.ops.aten._flash_attention_forward(
            query, key, value, bounds.offsets, bounds.offsets, longest, longest, 0.0, False, False, scale=scale
        )
        flat: Tensor = out
        return flat.contiguous()
    # Ranges that follow each other and have one length go together.
    parts: list[Tensor] = []
    start = index = 0
    while index < len(bounds.lengths):
        length, count = bounds.lengths[index], 1
        while index + count < len(bounds.lengths) and bounds.lengths[index + count] == length:
            count += 1
        end = start + length * count
        parts.append(_batched(query[start:end], key[start:end], value[start:end], count, scale))
        start, index = end, index + count
    return torch.cat(parts)


def _batched(query: Tensor, key: Tensor, value: Tensor, count: int, scale: float) -> Tensor:
    tokens, heads, dim = query.shape
    q, k, v = (x.unflatten(0, (count, tokens // count)).transpose(1, 2) for x in (query, key, value))
    out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return out.transpose(1, 2).reshape(tokens, heads, dim)
