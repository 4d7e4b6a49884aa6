"""M-RoPE positions of one growing video segment.

Multimodal rotary positions have three axes: time, height, width (Qwen2-VL, arXiv 2409.12191, section 2.1;
absolute time in Qwen2.5-VL, arXiv 2502.13923, section 2.1.2). Temporal patch i (two frames) of a segment that
starts at S sits at

    T = S + floor(tokens_per_second * (t_i - t_0)),    H = S + y,    W = S + x

with t_i the time of the pair's first frame. The floor is taken on the product since the segment's start:
a floor per chunk would lose up to one position every chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from stream_vl_ros.engine.units import NANOSECONDS

# Stamps are whole nanoseconds, so 1/30 s and its multiples are cut short, and seconds as float64 are off by a
# quarter of a microsecond at today's dates. Without slack, frame 30 of a 30 fps camera would fall before 1 s.
STAMP_SLACK_NS = 1_000


@dataclass(frozen=True, slots=True)
class VideoSegment:
    """Positions of a video segment and how far it has grown.

    Attributes:
        start: S, the position after ``<|vision_start|>``.
        grid: merged rows and columns of one temporal patch, i.e. visual tokens per axis.
        tokens_per_second: temporal positions per second; None counts patches instead (Qwen2-VL).
        origin_ns: time of the segment's first frame.
        patches: temporal patches so far.
        last_time: largest temporal position so far, `start - 1` while empty.
        shift: how far temporal positions were moved back since the segment began.
    """

    start: int
    grid: tuple[int, int]
    tokens_per_second: Fraction | None
    origin_ns: int = 0
    patches: int = 0
    last_time: int = -1
    shift: int = 0

    @property
    def tokens_per_patch(self) -> int:
        return self.grid[0] * self.grid[1]

    def extend(self, times_ns: list[int]) -> tuple[VideoSegment, Tensor]:
        """Add one temporal patch per entry of `times_ns` (time of the pair's first frame, nanoseconds).

        Returns the grown segment and the positions of its new tokens, int64 of shape
        (3, len(times_ns) * rows * columns), in the order of the vision tower's output.
        """
        origin = self.origin_ns if self.patches else times_ns[0]
        temporal = [self._temporal(self.patches + i, t - origin) for i, t in enumerate(times_ns)]
        rows, columns = self.grid
        t = torch.tensor(temporal, dtype=torch.int64)[:, None, None].expand(-1, rows, columns)
        h = (self.start + torch.arange(rows))[None, :, None].expand(len(temporal), -1, columns)
        w = (self.start + torch.arange(columns))[None, None, :].expand(len(temporal), rows, -1)
        grown = replace(
            self,
            origin_ns=origin,
            patches=self.patches + len(temporal),
            last_time=max([self.last_time, *temporal]),
        )
        return grown, torch.stack((t, h, w)).reshape(3, -1)

    def _temporal(self, index: int, elapsed_ns: int) -> int:
        if self.tokens_per_second is None:
            return self.start - self.shift + index
        late = int(self.tokens_per_second * (elapsed_ns + STAMP_SLACK_NS) // NANOSECONDS)
        return self.start - self.shift + late

    def moved(self, back: int, start: int) -> VideoSegment:
        """The segment with its temporal positions `back` lower, and its rows and columns counted from `start`."""
        shift = self.shift + back - (self.start - start)
        return replace(self, start=start, shift=shift, last_time=self.last_time - back)

    def time_of(self, time_ns: int) -> int:
        """Temporal position that a next pair of this time would get."""
        return self._temporal(self.patches, time_ns - self.origin_ns) if self.patches else self.start

    def text_start(self, after_maximum: bool) -> int:
        """Position of the first text token after the segment.

        `after_maximum` True: the largest position of all three axes + 1, as the models were trained.
        False: start + the larger side of the grid, as transformers 5.x up to at least 5.23 does, which
        ignores the temporal axis.
        """
        if self.patches == 0:
            return self.start
        spatial_end = self.start + max(self.grid)
        return max(self.last_time + 1, spatial_end) if after_maximum else spatial_end


def text_positions(start: int, length: int) -> Tensor:
    """Positions of `length` text tokens from `start` on: int64 of shape (3, length), equal on all axes."""
    return torch.arange(start, start + length).expand(3, -1)
