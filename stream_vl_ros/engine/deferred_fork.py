"""A fork whose moment is fixed, and whose work is not done yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stream_vl_ros.engine.adapters.base import ModelAdapter
from stream_vl_ros.engine.answer import Moment
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.positions import VideoSegment
from stream_vl_ros.engine.prompt import PromptPieces
from stream_vl_ros.engine.reader import Reader
from stream_vl_ros.engine.tip import Tip


@dataclass(slots=True)
class DeferredFork:
    """What a stream was at one moment. The frames that waited then are still to be read, piece by piece.

    The stream may go on meanwhile: nothing that happens to it changes what the fork will have seen.

    Attributes:
        moment: what of the video it sees.
        cache: the stream's tokens, shared.
        segment: the newest segment in them; None if they end with an answer.
        position: of text that follows them, if there is no segment.
        waiting: frames behind them.
        tip: where those are read, shared with others of about the same moment; None without any.
    """

    adapter: ModelAdapter
    reader: Reader
    pieces: PromptPieces
    moment: Moment
    cache: KVCache
    segment: VideoSegment | None
    position: int
    waiting: Sequence[Frame]
    tip: Tip | None

    @property
    def ready(self) -> bool:
        """Whether `fork` has nothing to read any more."""
        return self.tip is None or self.tip.has(self.waiting)

    @torch.inference_mode()
    def advance(self) -> None:
        """Read one more piece, and wait for the device: whoever calls next finds it idle."""
        if self.tip is not None:
            self.tip.advance(self.waiting)
            self.adapter.settle()

    @torch.inference_mode()
    def fork(self) -> Fork:
        """The fork, after all that is left to read."""
        if self.tip is None:
            # Not the cache itself: whoever fails on the fork gives it up, and is tried once more.
            cache, segment = self.cache.fork(), self.segment
        else:
            while not self.ready:
                self.tip.advance(self.waiting)
            cache, segment = self.tip.fork()
        if segment is None:
            # No new video since a remembered answer: the question follows it in the dialogue.
            start, ask = self.position, self.pieces.follow_up
        else:
            start, ask = self.reader.text_end(segment), self.pieces.ask
        return Fork(self.adapter, self.moment, cache, start, ask, self.pieces.follow_up)
