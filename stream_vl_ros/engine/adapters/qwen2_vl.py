"""Qwen2.5-VL and Qwen2-VL: run by transformers' own modelling code, on a GPU by fused kernels on the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from transformers.models.qwen2_vl.modeling_qwen2_vl import rotate_half

from stream_vl_ros.engine import attention
from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.frames import PatchGeometry
from stream_vl_ros.engine.fused import FusedModel
from stream_vl_ros.engine.next_tokens import NextTokens
from stream_vl_ros.engine.segments import CacheShape

# The reference code of the family (qwen-vl-utils, VIDEO_MAX_PIXELS) never gives a video frame more than this,
# although the checkpoints' own limit, meant for single pictures, is 16 times as large.
VIDEO_MAX_PIXELS = 768 * 28 * 28

# Long enough in time that the temporal axis passes the spatial ones, which is where text bases differ.
_PROBE_PATCHES = 20


class Qwen25VLAdapter:
    """Absolute time: `tokens_per_second` temporal positions per second of video."""

    def __init__(self, model: Any, processor: Any) -> None:
        attention.register()
        model.set_attn_implementation({"text_config": attention.ATTENTION_NAME})
        self._model = model
        text, vision = model.config.text_config, model.config.vision_config
        weight = model.get_input_embeddings().weight
        self.device: torch.device = weight.device
        self.dtype: torch.dtype = weight.dtype
        self.tokens_per_second = self._tokens_per_second(vision)
        self.max_positions: int = text.max_position_embeddings
        # An entry of our own in the configuration of checkpoints that know less than they have positions for.
        self.trained_positions: int = getattr(model.config, "trained_positions", self.max_positions)
        self.cache_shape = CacheShape(
            layers=text.num_hidden_layers,
            kv_heads=text.num_key_value_heads,
            head_dim=text.hidden_size // text.num_attention_heads,
            dtype=self.dtype,
            device=self.device,
        )
        self.geometry = _geometry(processor.video_processor)
        # A dict of ready masks keeps transformers from building any: the registered attention needs none.
        self._no_masks = {"full_attention": None, "sliding_attention": None}
        self.text_after_maximum = self._probe_text_base()
        self.fused = FusedModel.of(model)

    def _tokens_per_second(self, vision: Any) -> Fraction | None:
        return Fraction(vision.tokens_per_second)

    def embed_video(self, patches: Tensor, grid: Tensor) -> Tensor:
        """See `ModelAdapter.embed_video`."""
        if self.fused is not None and self.fused.vision is not None:
            return self.fused.vision(patches, grid)
        features = self._model.model.get_video_features(patches, grid.to(patches.device), return_dict=True)
        return torch.cat(list(features.pooler_output)).to(self.dtype)

    def embed_text(self, ids: Tensor) -> Tensor:
        """See `ModelAdapter.embed_text`."""
        embeds: Tensor = self._model.get_input_embeddings()(ids)
        return embeds

    def forward(self, embeds: Tensor, positions: Tensor, cache: KVCache | BatchCache) -> Tensor:
        """See `ModelAdapter.forward`."""
        rows, tokens, _ = embeds.shape
        if positions.ndim == 2:
            positions = positions[:, None].expand(-1, rows, -1)
        if self.fused is not None:
            return self.fused.language.forward(embeds, positions.to(self.device), cache)
        with cache.extend(tokens):
            output = self._model.model.language_model(
                inputs_embeds=embeds,
                position_ids=positions.to(self.device),
                attention_mask=self._no_masks,
                past_key_values=cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def read(self, embeds: Tensor, positions: Tensor, cache: KVCache) -> None:
        """See `ModelAdapter.read`."""
        if self.fused is not None:
            self.fused.read(embeds, positions, cache)
        else:
            self.forward(embeds[None], positions, cache)

    def prepare(self, patches: Tensor, grid: Tensor, tokens: Sequence[int], cache: KVCache) -> None:
        """See `ModelAdapter.prepare`."""
        if self.fused is not None:
            self.fused.prepare(patches, grid, tokens, cache)

    def settle(self) -> None:
        """See `ModelAdapter.settle`."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def read_text(self, ids: Sequence[Sequence[int]], starts: Sequence[int], cache: KVCache | BatchCache) -> Tensor:
        """See `ModelAdapter.read_text`."""
        if self.fused is not None and (scores := self.fused.step(ids, starts, cache)) is not None:
            return scores
        positions = torch.tensor(starts)[:, None] + torch.arange(len(ids[0]))
        embeds = self.embed_text(torch.tensor(ids, device=self.device))
        return self.logits(self.forward(embeds, positions.expand(3, -1, -1), cache)[:, -1])

    def write(
        self, tokens: Sequence[int], starts: Sequence[int], cache: KVCache | BatchCache, *, more: bool
    ) -> NextTokens:
        """See `ModelAdapter.write`."""
        if self.fused is not None and (found := self.fused.write(tokens, starts, cache, more=more)) is not None:
            return found
        scores = self.read_text([[t] for t in tokens], starts, cache)
        return NextTokens(scores, lambda: scores.argmax(-1).tolist())

    def warm_up(self, cache: KVCache) -> None:
        """See `ModelAdapter.warm_up`."""
        if self.fused is not None:
            self.fused.warm_up(cache)

    def rotate(self, keys: Tensor, deltas: Tensor) -> Tensor:
        """See `ModelAdapter.rotate`."""
        rotary = self._model.model.language_model.rotary_emb
        heads = keys[0].float()
        cos, sin = rotary(heads, deltas.to(keys.device))
        if cos.ndim == 4:  # releases before 5.18 leave the three axes to the attention layer
            sections = 2 * self._model.config.text_config.rope_parameters["mrope_section"]
            cos, sin = (
                torch.cat([m[i % 3] for i, m in enumerate(x.split(sections, dim=-1))], dim=-1) for x in (cos, sin)
            )
        # Scaled variants of rotary embeddings scale keys as well; that was done when they were made.
        cos, sin = cos / rotary.attention_scaling, sin / rotary.attention_scaling
        rotated: Tensor = (heads * cos + rotate_half(heads) * sin)[None]
        return rotated.to(keys.dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """See `ModelAdapter.logits`."""
        scores: Tensor = self._model.lm_head(hidden).float()
        return scores

    def _probe_text_base(self) -> bool:
        # Releases of transformers disagree (facts in docs/architecture.md), so the installed one is asked.
        config = self._model.config
        merge = self.geometry.merge
        video = [config.video_token_id] * _PROBE_PATCHES
        ids = torch.tensor([[config.vision_start_token_id, *video, config.vision_end_token_id]])
        kinds = torch.tensor([[0, *([2] * _PROBE_PATCHES), 0]])
        positions, _ = self._model.model.get_rope_index(
            ids,
            mm_token_type_ids=kinds,
            video_grid_thw=torch.tensor([[_PROBE_PATCHES, merge, merge]]),
            second_per_grid_ts=torch.tensor([1.0]),
        )
        first_text, last_video = positions[:, 0, -1].max(), positions[:, 0, :-1].max()
        return bool(first_text == last_video + 1)


class Qwen2VLAdapter(Qwen25VLAdapter):
    """No absolute time: one temporal position per pair of frames."""

    def _tokens_per_second(self, vision: Any) -> Fraction | None:
        return None


def _geometry(video_processor: Any) -> PatchGeometry:
    size = video_processor.size
    return PatchGeometry(
        patch=video_processor.patch_size,
        merge=video_processor.merge_size,
        temporal=video_processor.temporal_patch_size,
        min_pixels=size["shortest_edge"],
        max_pixels=min(size["longest_edge"], VIDEO_MAX_PIXELS),
        mean=tuple(video_processor.image_mean),
        std=tuple(video_processor.image_std),
        rescale=video_processor.rescale_factor,
    )
