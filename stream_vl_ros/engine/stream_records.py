"""What a stream hands out, and what it keeps of a moment."""

from __future__ import annotations

from dataclasses import dataclass

from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.sampling import FrameSampler
from stream_vl_ros.engine.segments import Snapshot
from stream_vl_ros.engine.stream_state import StreamState
from stream_vl_ros.engine.time_jump import Jump


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """One chunk that was encoded: frames and tokens in it, and the seconds that it took."""

    frames: int
    tokens: int
    seconds: float


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
