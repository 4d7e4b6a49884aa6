"""Header stamps that do not go on where they were: the clock was set, a bag began anew, the camera paused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.units import NANOSECONDS


@dataclass(frozen=True, slots=True)
class Jump:
    """A jump in time between two frames.

    Attributes:
        kind: ``"back"`` if the later frame has the earlier stamp, ``"gap"`` if too much time lies between them.
        from_ns, to_ns: header stamps of the frame before, and of the one that jumped.
    """

    kind: Literal["back", "gap"]
    from_ns: int
    to_ns: int

    @property
    def seconds(self) -> float:
        """How far it jumped, in seconds, whichever way."""
        return abs(self.to_ns - self.from_ns) / NANOSECONDS

    def told(self, config: StreamConfig) -> str:
        """What jumped, and what was done about it by these settings, in words."""
        limit = f"jump_back {config.jump_back:g} s" if self.kind == "back" else f"max_gap {config.max_gap:g} s"
        return f"{self} ({limit}): {_DONE[config.on_time_jump]} (on_time_jump {config.on_time_jump!r})"

    def __str__(self) -> str:
        how = "jumped back" if self.kind == "back" else "jumped ahead"
        span = f"from {self.from_ns / NANOSECONDS:.6f} s to {self.to_ns / NANOSECONDS:.6f} s"
        return f"header stamps {how} by {self.seconds:.3f} s, {span}"


_DONE = {
    "reset": "all video was forgotten, and this frame begins a new one",
    "continue": "the video goes on",
    "mark": "the video ends, and another one begins in the same memory",
}


@dataclass(frozen=True, slots=True)
class JumpCounters:
    """How often time jumped back, and how often there was a gap."""

    back: int = 0
    gaps: int = 0

    def more(self, jump: Jump) -> JumpCounters:
        """With one more."""
        if jump.kind == "back":
            return replace(self, back=self.back + 1)
        return replace(self, gaps=self.gaps + 1)
