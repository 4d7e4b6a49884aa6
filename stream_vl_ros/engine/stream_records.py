"""What a stream hands out, and what it keeps of a moment."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.sampling import FrameSampler
from stream_vl_ros.engine.segments import Snapshot
from stream_vl_ros.engine.stopwatch import Stopwatch
from stream_vl_ros.engine.stream_state import StreamState
from stream_vl_ros.engine.time_jump import Jump


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """One chunk that was encoded.

    Attributes:
        frames: in it.
        tokens: likewise.
        time: that it took; on a GPU it may still be at work on it.
    """

    frames: int
    tokens: int
    time: Stopwatch = field(repr=False, compare=False)

    @property
    def seconds(self) -> float:
        """That it took. On a GPU this waits until the chunk is done."""
        return self.time.seconds


@dataclass(frozen=True, slots=True)
class Offered:
    """What became of a picture: whether it is kept, and how its stamp jumped, if it did. True if it is kept."""

    kept: bool
    jump: Jump | None = None

    def __bool__(self) -> bool:
        return self.kept


@dataclass(frozen=True, slots=True)
class StreamSnapshot:
    """A moment of a stream, to go back to with `restore`, even after a reset. Keeps the memory of that moment alive."""

    cache: Snapshot
    state: StreamState
    pending: tuple[Frame, ...]
    size: tuple[int, int] | None
    sampler: FrameSampler
    prefix: tuple[str, str]  # system prompt and text base
