"""The model on a GPU: fused kernels and CUDA graphs in place of transformers' modules, on the same weights.

`FusedModel.of` says whether a model can be run this way; everything else runs transformers' own modelling code.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.fused.elementwise import silu_mul
from stream_vl_ros.engine.fused.graphs import StepGraphs
from stream_vl_ros.engine.fused.language import FusedLanguage
from stream_vl_ros.engine.fused.read_graphs import ReadGraphs
from stream_vl_ros.engine.fused.toolkit import HAS_TRITON
from stream_vl_ros.engine.fused.vision import FusedVision
from stream_vl_ros.engine.fused.vision_graphs import VisionGraphs
from stream_vl_ros.engine.next_tokens import NextTokens

log = logging.getLogger(__name__)


class FusedModel:
    """A model's vision tower and language layers, and the graphs of its steps."""

    def __init__(self, model: Any) -> None:
        """For models that `why_not` has nothing against; joins their weights in memory."""
        self.language = FusedLanguage(model)
        # Memory of all graphs: they run one after the other, and each keeps nothing but its result.
        pool = torch.cuda.graph_pool_handle()
        # Qwen2-VL's tower is another one, without windows.
        self.vision = VisionGraphs(FusedVision(model.model.visual), pool) if _has_windows(model) else None
        self._steps = StepGraphs(self.language, model.lm_head.weight.device, pool)
        self._reads = ReadGraphs(self.language, pool)

    @classmethod
    def of(cls, model: Any) -> FusedModel | None:
        """None where the modules of transformers have to do."""
        if model.lm_head.weight.device.type != "cuda":
            return None
        reason = _elsewhere(model.lm_head.weight.device) or why_not(model)
        if reason:
            log.warning("no fused kernels: %s; the model runs, slower", reason)
            return None
        return cls(model)

    def step(self, ids: Sequence[Sequence[int]], starts: Sequence[int], cache: KVCache | BatchCache) -> Tensor | None:
        """See `StepGraphs.step`."""
        return self._steps.step(ids, starts, cache)

    def write(
        self, tokens: Sequence[int], starts: Sequence[int], cache: KVCache | BatchCache, *, more: bool
    ) -> NextTokens | None:
        """See `StepGraphs.write`."""
        return self._steps.write(tokens, starts, cache, more=more)

    def read(self, embeds: Tensor, positions: Tensor, cache: KVCache) -> None:
        """As `ModelAdapter.read`: by a graph, or layer by layer."""
        if not self._reads.read(embeds, positions, cache):
            self.language.read(embeds[None], positions[:, None].to(embeds.device), cache)

    def prepare(self, patches: Tensor, grid: Tensor, tokens: Sequence[int], cache: KVCache) -> None:
        """As `ModelAdapter.prepare`. What there is no memory for runs without a graph."""
        if self.vision is not None:
            self.vision.prepare(patches, grid)
        for count in tokens:
            self._reads.prepare(count, cache)

    def warm_up(self, cache: KVCache) -> None:
        """See `StepGraphs.warm_up`."""
        self._steps.warm_up(cache)


def why_not(model: Any) -> str:
    """What stands against running a model with the kernels; empty if nothing does."""
    text = model.config.text_config
    dim = text.hidden_size // text.num_attention_heads
    if not HAS_TRITON:
        return "Triton is not installed"
    if dim & (dim - 1) or dim < 16:
        return f"heads of {dim} values; powers of two from 16 on are supported"
    acts = {text.hidden_act} | ({model.config.vision_config.hidden_act} if _has_windows(model) else set())
    if acts != {"silu"}:
        return "an activation that is not SiLU"
    if "sliding_attention" in getattr(text, "layer_types", ()):
        return "layers with a sliding window"
    if model.lm_head.bias is not None or not hasattr(model.model, "visual"):
        return "an unknown layout of modules"
    capability = torch.cuda.get_device_capability(model.lm_head.weight.device)
    if capability < (8, 0):
        return f"a GPU of compute capability {capability[0]}.{capability[1]}; 8.0 is needed"
    try:
        silu_mul(torch.ones(1, 64, dtype=model.lm_head.weight.dtype, device=model.lm_head.weight.device))
    except Exception as error:  # no C compiler on this machine, no folder to keep kernels in, ...
        return f"Triton cannot make kernels here: {type(error).__name__}: {error}"
    return ""


def _elsewhere(device: torch.device) -> str:
    """Triton launches on the current GPU, whatever its arguments are on."""
    if device.index in (None, torch.cuda.current_device()):
        return ""
    return f"{device} is not the first GPU; CUDA_VISIBLE_DEVICES={device.index} with device cuda makes it that"


def _has_windows(model: Any) -> bool:
    return str(model.config.model_type) == "qwen2_5_vl"
