"""The frames that wait for their chunk, and what was made of them already."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

import numpy as np

from stream_vl_ros.engine.adapters.base import ModelAdapter
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.reader import Reader, Size
from stream_vl_ros.engine.stream_state import StreamState
from stream_vl_ros.engine.tip import PIECE, Tip
from stream_vl_ros.engine.visual import VisualTokens


class WaitingFrames:
    """Frames that a stream has taken but not read.

    Large pictures pass through the vision tower while they wait, and questions that see them share what is read of them
    on a fork, the tip. Both can be made again at any time.
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        """None yet."""
        self.frames: list[Frame] = []
        self._adapter = adapter
        self._pair = adapter.geometry.temporal
        self._least = self._chunk = self._pair
        self._visual: VisualTokens | None = None
        self._tip: Tip | None = None

    def use(self, chunk_frames: int) -> None:
        """From now on a chunk takes `chunk_frames`, rounded down to whole pairs, but one pair at least."""
        self._least = max(chunk_frames, self._pair)
        self._chunk = self._least - self._least % self._pair
        self._visual = self._tip = None

    def restart(self, frames: Iterable[Frame] = ()) -> None:
        """Let these be the frames that wait, behind a stream that went elsewhere."""
        self.frames = list(frames)
        self._tip = None

    def __len__(self) -> int:
        return len(self.frames)

    def due(self) -> int:
        """How many frames, from the first one on, are a chunk now; 0 if more may come."""
        open_, closed = self._first_span()
        if open_ >= self._least:
            return self._chunk
        return open_ if closed else 0

    def whole(self) -> int:
        """How many frames, from the first one on, can be a chunk without others: pairs, unless a span ends there."""
        count, closed = self._first_span()
        return count if closed else count - count % self._pair

    def _first_span(self) -> tuple[int, bool]:
        """How many of the frames, from the first one on, are of one span, and whether that is over."""
        count = sum(1 for _ in takewhile(lambda f: f.span == self.frames[0].span, self.frames))
        return count, count < len(self.frames)

    def visual(self, size: Size, cache: KVCache) -> VisualTokens:
        """Visual tokens of pictures that are encoded at `size`. The first time, what chunks of them need is made."""
        if self._visual is None or self._visual.size != size:
            self._visual = VisualTokens(self._adapter, size, self._chunk // self._pair)
            self._prepare(self._visual, cache)
        return self._visual

    def _prepare(self, visual: VisualTokens, cache: KVCache) -> None:
        pairs = self._chunk // self._pair
        picture = np.zeros((*visual.size, 3), np.uint8)
        count = self._pair * (1 if visual.large else pairs)
        patches, grid = visual.patches([Frame(picture, 0, 0)] * count, self._adapter.dtype)
        tokens = [pairs * visual.per_pair]
        if visual.large:
            tokens.append(-(-visual.per_pair // -(-visual.per_pair // PIECE)))
        self._adapter.prepare(patches, grid, tokens, cache)

    def look_ahead(self, visual: VisualTokens) -> None:
        """Let pairs of large pictures pass through the vision tower."""
        if not visual.large:
            return
        count, _ = self._first_span()
        for begin in range(0, count - count % self._pair, self._pair):
            visual.of(self.frames[begin : begin + self._pair])

    def tip(self, reader: Reader, visual: VisualTokens, state: StreamState, cache: KVCache) -> Tip:
        """The tip of the stream, which is at `state` and holds `cache`."""
        if self._tip is None or self._tip.state is not state:
            self._tip = Tip(reader, visual, state, cache.fork(), self._pair)
        return self._tip

    def forget_tip(self) -> None:
        """The stream goes on, or elsewhere."""
        self._tip = None

    def forget(self) -> None:
        """Keep nothing of what was made of the frames."""
        self._tip = None
        if self._visual is not None:
            self._visual.forget()
