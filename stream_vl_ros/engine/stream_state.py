"""What a stream is, besides the contents of its KV cache."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stream_vl_ros.engine.memory.ledger import Ledger
from stream_vl_ros.engine.memory.rebase import Rebase
from stream_vl_ros.engine.memory.still import LastRead
from stream_vl_ros.engine.positions import VideoSegment


@dataclass(frozen=True, slots=True)
class StreamState:
    """Everything of a stream that is not in the KV cache.

    Attributes:
        segment: the newest video segment; None before its first frame.
        position: M-RoPE position of the next token while there is no segment.
        answered: True if the cache ends with a remembered answer, whose turn is still open.
        frames: frames that were encoded, those that were forgotten since included.
        span: stretch of time that the segment belongs to; a frame of another one begins a segment of its own.
        first_stamp_ns, last_stamp_ns: of the first and last frame, in the order of arrival, of which something is left;
            0 without any. The first may be the larger one, after a jump back in time.
        ledger: what the cache holds, block by block.
        last_read: the pictures that new ones are compared with; only with `still_threshold`.
    """

    segment: VideoSegment | None
    position: int
    answered: bool = False
    frames: int = 0
    span: int = 0
    first_stamp_ns: int = 0
    last_stamp_ns: int = 0
    ledger: Ledger = field(default=Ledger(), repr=False, compare=False)
    last_read: LastRead | None = field(default=None, repr=False, compare=False)

    @property
    def held_frames(self) -> int:
        """Frames of which something is left."""
        return self.frames - self.ledger.evicted.frames

    @property
    def oldest_loose(self) -> int:
        """Number, in the order of arrival, of the first frame that is in the cache in full and not pinned there.

        0 as long as nothing was forgotten.
        """
        if not self.ledger.evicted.times:
            return 0
        return self.frames - sum(b.frames for b in self.ledger.loose)

    def holding(self, ledger: Ledger) -> StreamState:
        """With other contents, after something was forgotten."""
        if ledger is self.ledger:
            return self
        first = ledger.first_ns
        return replace(self, ledger=ledger, first_stamp_ns=self.first_stamp_ns if first is None else first)

    def moved(self, ledger: Ledger, rebase: Rebase | None) -> StreamState:
        """With these contents, after positions were moved back, if they were."""
        if rebase is None:
            return self
        segment = self.segment
        if segment is not None:
            segment = segment.moved(rebase.back, rebase.start(segment.start))
        return replace(self, ledger=ledger, segment=segment, position=self.position - rebase.back)
