"""Qwen2.5-VL's vision tower on a GPU: the arithmetic of transformers' modules, with all windows in one launch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stream_vl_ros.engine.fused.elementwise import add_rms_norm, rotate, silu_mul
from stream_vl_ros.engine.fused.weights import aligned, join, widen
from stream_vl_ros.engine.fused.windows import Bounds, attend_within

# Layouts of pictures that are kept: a stream has one, its waiting frames may make another, warming up a third.
_LAYOUTS = 8
# Patches whose gate and up are in memory at once.
_PIECE = 2432


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the patches of a grid go: all of it depends on the grid alone.

    Attributes:
        order: which block of merged patches comes at each place, int64 (blocks,).
        back: the inverse of it.
        windows, pictures: what attends to itself: windows, or whole pairs of frames.
        cosine, sine: float32 (patches, head_dim), in the new order.
    """

    order: Tensor
    back: Tensor
    windows: Bounds
    pictures: Bounds
    cosine: Tensor
    sine: Tensor


@dataclass(frozen=True, slots=True)
class Block:
    """Weights of one block; gate and up are joined, and widened with zeros to an aligned width."""

    norm: Tensor
    eps: float
    qkv: Any
    out: Any
    second_norm: Tensor
    second_eps: float
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: Tensor
    down_bias: Tensor | None
    whole: bool


class FusedVision:
    """Runs a `Qwen2_5_VisionTransformerPretrainedModel`."""

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        self._heads: int = visual.config.num_heads
        self._dim: int = visual.config.hidden_size // visual.config.num_heads
        self._unit: int = visual.spatial_merge_unit
        conv = visual.patch_embed.proj
        self._embed: Tensor = conv.weight.view(conv.weight.shape[0], -1)
        self._blocks = [_block(b, i in visual.fullatt_block_indexes) for i, b in enumerate(visual.blocks)]
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self.dtype: torch.dtype = conv.weight.dtype

    def __call__(self, patches: Tensor, grid: Tensor) -> Tensor:
        """As `ModelAdapter.embed_video`."""
        layout = self._layout(grid)
        width = self._embed.shape[0]
        blocks = F.linear(patches.to(self._embed.dtype), self._embed).view(-1, self._unit * width)
        residual = blocks[layout.order].view(-1, width)
        del blocks
        delta: Tensor | None = None
        for block in self._blocks:
            delta = self._attend(block, layout, residual, delta)
            delta = self._think(block, residual, delta)
        merger = self._visual.merger
        merged = add_rms_norm(residual, delta, merger.ln_q.weight, merger.ln_q.variance_epsilon)
        tokens: Tensor = merger.mlp(merged.view(-1, self._unit * width))
        return tokens[layout.back]

    # Each half on its own, so that what it made is freed before the other one begins.

    def _attend(self, block: Block, layout: Layout, residual: Tensor, delta: Tensor | None) -> Tensor:
        qkv = block.qkv(add_rms_norm(residual, delta, block.norm, block.eps))
        del delta
        rotate(qkv, layout.cosine, layout.sine, 2 * self._heads, self._dim)
        query, key, value = qkv.view(-1, 3, self._heads, self._dim).unbind(1)
        bounds = layout.pictures if block.whole else layout.windows
        seen = attend_within(query, key, value, bounds, self._dim**-0.5)
        out: Tensor = block.out(seen.view(residual.shape))
        return out

    def _think(self, block: Block, residual: Tensor, delta: Tensor) -> Tensor:
        normed = add_rms_norm(residual, delta, block.second_norm, block.second_eps)
        del delta
        patches, width = normed.shape[0], block.down.shape[1]
        inner = torch.empty(patches, width, dtype=normed.dtype, device=normed.device)
        # Gate and up are the largest of all: in pieces, of sizes that matrix products like.
        for begin in range(0, patches, _PIECE):
            end = begin + _PIECE
            silu_mul(F.linear(normed[begin:end], block.gate_up, block.gate_up_bias), out=inner[begin:end])
        return F.linear(inner, block.down, block.down_bias)

    def _layout(self, grid: Tensor) -> Layout:
        key = tuple(grid.flatten().tolist())
        if key not in self._layouts:
            while len(self._layouts) >= _LAYOUTS:
                self._layouts.pop(next(iter(self._layouts)))
            self._layouts[key] = self._make_layout(grid.cpu())
        return self._layouts[key]

    def _make_layout(self, grid: Tensor) -> Layout:
        from transformers.vision_utils import (
            get_vision_cu_seqlens,
            get_vision_position_ids,
            get_vision_window_index,
        )

        visual, device = self._visual, self._embed.device
        merge = visual.spatial_merge_size
        order, bounds = get_vision_window_index(
            grid, spatial_merge_size=merge, window_size=visual.window_size, patch_size=visual.patch_size
        )
        positions = get_vision_position_ids(grid, merge).to(device)
        order = order.to(device)
        angles = []
        for angle in visual.rotary_pos_emb(torch.empty(0, device=device), positions):
            by_block = angle.float().view(order.shape[0], self._unit, -1)
            angles.append(by_block[order].view(-1, angle.shape[-1]).contiguous())
        return Layout(
            order=order,
            back=torch.argsort(order),
            windows=Bounds.of(bounds.tolist(), device),
            pictures=Bounds.of(get_vision_cu_seqlens(grid).tolist(), device),
            cosine=angles[0],
            sine=angles[1],
        )


def _block(module: Any, whole: bool) -> Block:
    mlp = module.mlp
    width = aligned(mlp.down_proj.weight.shape[1])
    gate_up, gate_up_bias = join([mlp.gate_proj, mlp.up_proj], width)
    return Block(
        norm=module.norm1.weight,
        eps=module.norm1.variance_epsilon,
        qkv=module.attn.qkv,
        out=module.attn.proj,
        second_norm=module.norm2.weight,
        second_eps=module.norm2.variance_epsilon,
        gate_up=gate_up,
        gate_up_bias=gate_up_bias,
        down=widen(mlp.down_proj, width),
        down_bias=mlp.down_proj.bias,
        whole=whole,
    )
