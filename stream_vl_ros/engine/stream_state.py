"""What a stream is, besides the contents of its KV cache."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_vl_ros.engine.memory.ledger import Ledger
from stream_vl_ros.engine.memory.still import LastRead
from stream_vl_ros.engine.positions import VideoSegment


@dataclass(frozen=True, slots=True)
class StreamState:
    """Everything of a stream that is not in the KV cache.

    Attributes:
        segment: the video segment that is growing; None before its first frame.
        position: M-RoPE position of the next token while there is no segment.
        answered: True if the cache ends with a remembered answer, whose turn is still open.
        frames: frames that were encoded, those that were forgotten since included.
        first_stamp_ns, last_stamp_ns: of the first and last frame of which something is left; 0 without any.
        ledger: what the cache holds, block by block; kept only with an eviction rule.
        last_read: the pictures that new ones are compared with; only with `still_threshold`.
    """

    segment: VideoSegment | None
    position: int
    answered: bool = False
    frames: int = 0
    first_stamp_ns: int = 0
    last_stamp_ns: int = 0
    ledger: Ledger = field(default=Ledger(), repr=False, compare=False)
    last_read: LastRead | None = field(default=None, repr=False, compare=False)

    @property
    def held_frames(self) -> int:
        """Frames of which something is left."""
        return self.frames - self.ledger.evicted.frames
