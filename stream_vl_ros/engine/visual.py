"""Visual tokens of frames that wait: of large pictures they are made once, whoever reads them first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stream_vl_ros.engine.adapters.base import ModelAdapter
from stream_vl_ros.engine.frames import Frame, to_patches

# Visual tokens of a pair of frames from which on a pair is work enough for itself. Smaller ones go through the vision
# tower together.
LARGE = 256


class VisualTokens:
    """Runs the vision tower, which looks at one pair of frames at a time, and keeps what it made of the last few pairs.

    What a pair of large pictures comes to never depends on the company it is looked at in, bit for bit.
    """

    def __init__(self, adapter: ModelAdapter, size: tuple[int, int], pairs: int) -> None:
        """For pictures that are encoded at `size`, height and width in pixels; the last `pairs` pairs are kept."""
        self._adapter, self.size, self._pairs = adapter, size, pairs
        rows, columns = adapter.geometry.grid(*size)
        self.per_pair = rows * columns
        self.large = self.per_pair >= LARGE
        self._kept: dict[tuple[int, ...], tuple[Sequence[Frame], Tensor]] = {}

    def of(self, frames: Sequence[Frame]) -> Tensor:
        """Visual tokens of frames in pairs, an odd last one doubled: (tokens, hidden), in the model's dtype."""
        if not self.large:
            return self._look(frames)
        tokens = [self._of_pair(pair) for pair in self._in_pairs(frames)]
        return tokens[0] if len(tokens) == 1 else torch.cat(tokens)

    def has(self, frames: Sequence[Frame]) -> bool:
        """Whether all of these were looked at already."""
        return all(_key(pair) in self._kept for pair in self._in_pairs(frames))

    def forget(self) -> None:
        """Keep nothing any longer; what is asked for again is made again."""
        self._kept.clear()

    def patches(self, frames: Sequence[Frame], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """See `frames.to_patches`."""
        return to_patches([f.pixels for f in frames], self.size, self._adapter.geometry, self._adapter.device, dtype)

    def _in_pairs(self, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        pair = self._adapter.geometry.temporal
        for begin in range(0, len(frames), pair):
            yield frames[begin : begin + pair]

    def _of_pair(self, pair: Sequence[Frame]) -> Tensor:
        key = _key(pair)
        if key in self._kept:
            self._kept[key] = self._kept.pop(key)
            return self._kept[key][1]
        tokens = self._look(pair)
        if len(pair) == self._adapter.geometry.temporal:  # a frame that was doubled is of no use in a chunk
            while len(self._kept) >= self._pairs:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = (tuple(pair), tokens)  # with the frames, so that no other ones get their ids
        return tokens

    def _look(self, frames: Sequence[Frame]) -> Tensor:
        # What the tower's first product rounds them to.
        return self._adapter.embed_video(*self.patches(frames, self._adapter.dtype))


def _key(pair: Sequence[Frame]) -> tuple[int, ...]:
    return tuple(id(f) for f in pair)
