"""Paying the price of first times before the first frame: kernels are loaded, workspaces allocated."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.stream import VideoStream

log = logging.getLogger(__name__)

# What many cameras send. Kernels for pictures of their kind are compiled, and if it is what comes, graphs are there.
_USUAL = (720, 1280)


def warm_up(model: LoadedModel, config: StreamConfig) -> None:
    """Encode chunks of grey pictures and ask about them, on a stream that is thrown away."""
    # A budget that suits the camera's pictures may be too small for these, and need not be allocated twice. Of a slow
    # cadence every frame might be a gap.
    unbounded = replace(
        config, eviction="none", budget_tokens=0, budget_mib=0.0, budget_seconds=0.0, on_time_jump="continue"
    )
    small = (4 * model.adapter.geometry.factor,) * 2
    if model.adapter.device.type != "cuda":
        _try_out(model, unbounded, small)
        return
    try:
        _try_out(model, unbounded, _USUAL)
    except torch.OutOfMemoryError:
        log.warning("too little memory for pictures of %d x %d: warmed up with small ones", *_USUAL)
        _try_out(model, unbounded, small)


def _try_out(model: LoadedModel, config: StreamConfig, size: tuple[int, int]) -> None:
    stream = VideoStream(model, config)
    grey = np.full((*size, 3), 128, dtype=np.uint8)
    # A chunk, and a frame that waits for the next one.
    count = max(config.chunk_frames, model.adapter.geometry.temporal) + 1
    period = 1 / (config.target_fps or 1)
    stream.append([grey] * count, [i * period for i in range(count)])
    with torch.inference_mode():
        model.adapter.warm_up(stream.cache)
    stream.ask("What is visible now?", max_new_tokens=2)
    stream.ask("What is visible now?", ("nothing", "a grey wall"))
