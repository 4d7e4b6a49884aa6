"""What the engine needs to know of a model family."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor

from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.frames import PatchGeometry
from stream_vl_ros.engine.next_tokens import NextTokens
from stream_vl_ros.engine.segments import CacheShape


class ModelAdapter(Protocol):
    """One loaded model behind the few calls that a stream makes. Every call runs on the calling thread."""

    device: torch.device
    dtype: torch.dtype
    geometry: PatchGeometry
    cache_shape: CacheShape
    tokens_per_second: Fraction | None
    # Positions that the model was made for, on each axis.
    max_positions: int
    # Positions that it was trained with, where the checkpoint says so; `max_positions` otherwise.
    trained_positions: int
    # True if the installed transformers places text after a video at its largest position + 1.
    text_after_maximum: bool

    def embed_video(self, patches: Tensor, grid: Tensor) -> Tensor:
        """Visual tokens of a video.

        Args:
            patches: (T * H * W, values per patch), as `frames.to_patches` makes them.
            grid: int64, (1, 3): T, H, W in patches.

        Returns:
            (T * H * W / merge**2, hidden), in the model's dtype.
        """
        ...

    def embed_text(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids, (rows, tokens) to (rows, tokens, hidden)."""
        ...

    def forward(self, embeds: Tensor, positions: Tensor, cache: KVCache | BatchCache) -> Tensor:
        """Run new tokens on top of `cache`, which keeps their keys and values.

        Args:
            embeds: (rows, tokens, hidden).
            positions: int64, (3, rows, tokens) or (3, tokens) for all rows alike.

        Returns:
            Hidden states after the last norm, (rows, tokens, hidden).
        """
        ...

    def read(self, embeds: Tensor, positions: Tensor, cache: KVCache) -> None:
        """Run visual tokens on top of `cache`: `forward` for one row, without its result.

        Args:
            embeds: (tokens, hidden).
            positions: int64, (3, tokens), on the CPU.
        """
        ...

    def prepare(self, patches: Tensor, grid: Tensor, tokens: Sequence[int], cache: KVCache) -> None:
        """Do once what `embed_video` of such patches, and `read` of so many tokens, need the first time.

        `cache` is as it was afterwards.
        """
        ...

    def settle(self) -> None:
        """Wait until the device has done what it was given."""
        ...

    def read_text(self, ids: Sequence[Sequence[int]], starts: Sequence[int], cache: KVCache | BatchCache) -> Tensor:
        """Run text on top of `cache`, and say what may follow it.

        Args:
            ids: new tokens of each row, the same number in all.
            starts: position of each row's first one, the same on all axes; the others follow it.

        Returns:
            Scores of the token after the last, float32, (rows, vocabulary).
        """
        ...

    def write(
        self, tokens: Sequence[int], starts: Sequence[int], cache: KVCache | BatchCache, *, more: bool
    ) -> NextTokens:
        """As `read_text`, of one token per row, by somebody who writes an answer.

        Args:
            tokens: of each row.
            starts: their positions.
            cache: what they come on top of.
            more: whether the best token of each row will most likely be written next. Where that helps, a device is
                told to go on with it at once.
        """
        ...

    def warm_up(self, cache: KVCache) -> None:
        """Prepare what questions will need, on throw-away forks of `cache`."""
        ...

    def rotate(self, keys: Tensor, deltas: Tensor) -> Tensor:
        """Keys from the cache at other positions.

        Args:
            keys: (1, kv_heads, tokens, head_dim), with rotary positions applied.
            deltas: int64, (3, kv_heads, tokens), what the positions change by.

        Returns:
            New memory of the same shape and dtype; computed in float32.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, float32, (..., vocabulary)."""
        ...


AdapterFactory = Any  # a class that is called with (model, processor)
