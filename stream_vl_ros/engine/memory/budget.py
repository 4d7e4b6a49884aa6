"""A budget in tokens, MiB or seconds is a number of tokens in the end."""

from __future__ import annotations

import math

from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import FrameError


def budget_in_tokens(config: StreamConfig, bytes_per_token: int, opening: int, tokens_per_second: float) -> int | None:
    """Tokens that the cache may hold at the most, by the tightest of the budgets that are set; None without any.

    Args:
        config: holds the budgets.
        bytes_per_token: of the cache.
        opening: tokens in front of the video, which a budget in seconds does not count.
        tokens_per_second: visual tokens that a second of video makes.
    """
    limits = []
    if config.budget_tokens:
        limits.append(config.budget_tokens)
    if config.budget_mib:
        limits.append(int(config.budget_mib * MIB) // bytes_per_token)
    if config.budget_seconds:
        limits.append(opening + math.ceil(config.budget_seconds * tokens_per_second))
    return min(limits, default=None)


def check_budget(tokens: int, needed: int, size: tuple[int, int], sink_frames: int = 0) -> None:
    """Raise `FrameError` (``budget_too_small``) for a budget that cannot hold the system turn and two chunks."""
    if tokens < needed:
        kept = f", and the first {sink_frames} frames (sink_frames)," if sink_frames else ""
        raise FrameError(
            "budget_too_small",
            f"the memory budget holds {tokens} tokens, but the system turn and two chunks of {size[1]}x{size[0]} "
            f"pixels{kept} take {needed}: raise the budget, or lower max_pixels or chunk_frames"
            f"{' or sink_frames' if sink_frames else ''}",
        )
