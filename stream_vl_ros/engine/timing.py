"""Where a frame goes in time, and what a jump of its stamp does: settings applied to a sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from stream_vl_ros.engine.adapters import ModelAdapter
from stream_vl_ros.engine.config import OnTimeJump, StreamConfig
from stream_vl_ros.engine.sampling import FrameSampler
from stream_vl_ros.engine.time_jump import Jump
from stream_vl_ros.engine.units import NANOSECONDS


@dataclass(frozen=True, slots=True)
class Timing:
    """What a frame's stamp means.

    Attributes:
        sampler: as it is once the frame is taken.
        time_ns: the frame's time on the axis of its span; None if it is to be skipped.
        jump: how the stamp jumped, if it did.
        reset: all video is to be forgotten first.
    """

    sampler: FrameSampler
    time_ns: int | None
    jump: Jump | None = None
    reset: bool = False


def new_sampler(config: StreamConfig, adapter: ModelAdapter) -> FrameSampler:
    """The sampler of a stream that begins."""
    return adjusted(FrameSampler(config.target_fps), config, adapter)


def adjusted(sampler: FrameSampler, config: StreamConfig, adapter: ModelAdapter) -> FrameSampler:
    """A sampler that goes on where this one is, with these settings."""
    limits = [round(config.max_gap * NANOSECONDS)] if config.max_gap else []
    if adapter.tokens_per_second is not None:
        # More time than the model has positions for leaves no room for any video.
        limits.append(int(adapter.max_positions * NANOSECONDS / adapter.tokens_per_second))
    jump_back_ns = round(config.jump_back * NANOSECONDS)
    return replace(sampler.paced(config.target_fps), max_gap_ns=min(limits, default=None), jump_back_ns=jump_back_ns)


def timed(
    sampler: FrameSampler, stamp_ns: int, policy: OnTimeJump, *, fresh: FrameSampler, in_range: Callable[[int], bool]
) -> Timing:
    """Where a frame of this stamp goes. Nothing that is handed in changes.

    Args:
        sampler: as it is before the frame.
        stamp_ns: of the frame.
        policy: what a jump does.
        fresh: the sampler of a stream that begins.
        in_range: whether the model has positions for a time of the present span.

    Raises:
        FrameError: for a frame that is out of order.
    """
    after = replace(sampler)
    jump = after.jump(stamp_ns)
    if jump is None:
        return Timing(after, after.place(stamp_ns))
    if policy == "continue":
        if jump.kind == "gap":
            time_ns = after.place(stamp_ns)
            if time_ns is None or in_range(time_ns):
                return Timing(after, time_ns, jump)
            after = replace(sampler)
        return Timing(after, after.resume(stamp_ns), jump)
    # Whoever went back to a memory wants to keep it, however much time has passed since.
    if policy == "reset" and not sampler.restored:
        return Timing(fresh, fresh.place(stamp_ns), jump, reset=True)
    return Timing(after, after.begin(stamp_ns), jump)
