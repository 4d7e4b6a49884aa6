"""Paying the price of first times before the first frame: kernels are loaded, workspaces allocated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.stream import VideoStream


def warm_up(model: LoadedModel, config: StreamConfig) -> None:
    """Encode chunks of grey pictures and ask about them, on a stream that is thrown away."""
    # A budget that suits the camera's pictures may be too small for these, and need not be allocated twice. Of a slow
    # cadence every frame might be a gap.
    unbounded = replace(
        config, eviction="none", budget_tokens=0, budget_mib=0.0, budget_seconds=0.0, on_time_jump="continue"
    )
    stream = VideoStream(model, unbounded)
    # On a GPU two chunks of some size: kernels for large ones, and for captured ones, are compiled as well.
    on_gpu = model.adapter.device.type == "cuda"
    size = (8 if on_gpu else 4) * model.adapter.geometry.factor
    grey = np.full((size, size, 3), 128, dtype=np.uint8)
    count = max(config.chunk_frames, model.adapter.geometry.temporal) * (2 if on_gpu else 1)
    period = 1 / (config.target_fps or 1)
    stream.append([grey] * count, [i * period for i in range(count)])
    with torch.inference_mode():
        model.adapter.warm_up(stream.cache)
    stream.ask("What is visible now?", max_new_tokens=2)
    stream.ask("What is visible now?", ("nothing", "a grey wall"))
