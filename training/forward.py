"""The model's forward pass over packed rows, on the transformers model's own weights.

One row holds many clips. A clip is a trunk (prompt and video) and branches (questions) that see the
trunk up to their moment and themselves: every question is a fork of its clip. Linear algebra runs
in the inputs' type (bfloat16 when training), weights stay float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from training.grids import Grids
from training.shape import FULL_ATTENTION, HEAD_DIM, HEADS, KV_HEADS, MROPE_SECTION, VISION_HEADS


@dataclass(slots=True)
class Packed:
    """A batch on the device. R rows of L tokens, P frame pairs, C merged cells a pair."""

    ids: Tensor  # int64 [R, L]
    positions: Tensor  # int64 [3, R, L]
    home: Tensor  # int64 [P*C] flat index of each visual token, R*L for the unused
    clip: Tensor  # int32 [R, L] which clip a token is of
    branch: Tensor  # int32 [R, L] 0 for the trunk
    cut: Tensor  # int32 [R, L] the trunk is seen up to this column (exclusive)
    things: Tensor  # float32 [2P, objects, fields]
    look: Tensor  # float32 [2P, fields]
    grid: Tensor  # int64 [P] size index
    at: Tensor  # int64 [A] flat index of each token that predicts an answer token
    target: Tensor  # int64 [A], -100 unused
    weight: Tensor  # float32 [A]
    cell_label: Tensor  # int64 [P, C] object class + 1 of each cell, 0 nothing, -100 unused
    pair_at: Tensor  # int64 [P] flat index of each pair's last token
    memory_label: Tensor  # int64 [P, M] what a pair's last token should remember, -100 unused


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    y = x.float()
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)
    return (weight * y).to(x.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding; the last axis is halved as Qwen does."""
    a, b = x.float().chunk(2, -1)
    return (x.float() * cos + torch.cat((-b, a), -1) * sin).to(x.dtype)


def vision_block(x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, *w: Tensor) -> Tensor:
    """x [P, N, D]; cos, sin [P, 1, N, head_dim]; mask bool [P, 1, N, N]."""
    n1, n2, qkv_w, qkv_b, o_w, o_b, gate_w, gate_b, up_w, up_b, down_w, down_b = w
    pairs, slots, width = x.shape
    y = linear(rms(x, n1, 1e-6), qkv_w, qkv_b).view(pairs, slots, 3, VISION_HEADS, -1)
    q, k, v = y.permute(2, 0, 3, 1, 4).unbind(0)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    # Written out: fused attention kernels are slow at thousands of sequences of 64.
    score = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    y = score.masked_fill(~mask, -1e9).softmax(-1).to(v.dtype) @ v
    x = x + linear(y.transpose(1, 2).reshape(pairs, slots, width), o_w, o_b)
    y = rms(x, n2, 1e-6)
    return x + linear(F.silu(linear(y, gate_w, gate_b)) * linear(y, up_w, up_b), down_w, down_b)


def text_block(x: Tensor, cos: Tensor, sin: Tensor, attend: Callable[..., Tensor], *w: Tensor) -> Tensor:
    """x [R, L, D]; cos, sin [R, 1, L, head_dim]; ``attend(q, k, v)`` applies the packed mask."""
    n1, n2, q_w, q_b, k_w, k_b, v_w, v_b, o_w, gate_w, up_w, down_w = w
    rows, length, width = x.shape
    y = rms(x, n1, 1e-6)
    q = linear(y, q_w, q_b).view(rows, length, HEADS, HEAD_DIM).transpose(1, 2)
    k = linear(y, k_w, k_b).view(rows, length, KV_HEADS, HEAD_DIM).transpose(1, 2)
    v = linear(y, v_w, v_b).view(rows, length, KV_HEADS, HEAD_DIM).transpose(1, 2)
    y = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
    x = x + linear(y.transpose(1, 2).reshape(rows, length, width), o_w)
    y = rms(x, n2, 1e-6)
    return x + linear(F.silu(linear(y, gate_w)) * linear(y, up_w), down_w)


def visible(batch: Packed) -> Tensor:
    """The packed mask, bool [R, 1, L, L]: clip by clip, causal, a branch sees its trunk's past."""
    length = batch.ids.shape[1]
    i = torch.arange(length, device=batch.ids.device)
    same = batch.clip[:, :, None] == batch.clip[:, None, :]
    own = batch.branch[:, :, None] == batch.branch[:, None, :]
    trunk = (batch.branch[:, None, :] == 0) & (i[None, None, :] < batch.cut[:, :, None])
    return (same & (own | trunk) & (i[:, None] >= i[None, :]))[:, None]


def dense(mask: Tensor) -> Callable[..., Tensor]:
    """Attention with a materialised mask: the reference, and the CPU's way."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)

    return attend


def merge(x: Tensor, norm: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Four patches of a cell to one visual token."""
    x = rms(x, norm, 1e-6)
    x = x.reshape(x.shape[0], x.shape[1] // 4, -1)
    return linear(F.gelu(linear(x, w1, b1)), w2, b2)


def head(x: Tensor, norm: Tensor, embed: Tensor) -> Tensor:
    return linear(rms(x, norm, 1e-6), embed).float()


class Forward:
    """Runs a transformers model on packed batches. ``wrap`` compiles the blocks where asked to."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, tables: Grids) -> None:
        self.model = model
        self.tables = tables
        self.vision_block: Callable[..., Tensor] = vision_block
        self.text_block: Callable[..., Tensor] = text_block
        self.merge: Callable[..., Tensor] = merge
        self.head: Callable[..., Tensor] = head
        inner = model.model
        self.vision_weights = [
            (
                b.norm1.weight, b.norm2.weight, b.attn.qkv.weight, b.attn.qkv.bias, b.attn.proj.weight,
                b.attn.proj.bias, b.mlp.gate_proj.weight, b.mlp.gate_proj.bias, b.mlp.up_proj.weight,
                b.mlp.up_proj.bias, b.mlp.down_proj.weight, b.mlp.down_proj.bias,
            )
            for b in inner.visual.blocks
        ]  # fmt: skip
        self.text_weights = [
            (
                b.input_layernorm.weight, b.post_attention_layernorm.weight, b.self_attn.q_proj.weight,
                b.self_attn.q_proj.bias, b.self_attn.k_proj.weight, b.self_attn.k_proj.bias,
                b.self_attn.v_proj.weight, b.self_attn.v_proj.bias, b.self_attn.o_proj.weight,
                b.mlp.gate_proj.weight, b.mlp.up_proj.weight, b.mlp.down_proj.weight,
            )
            for b in inner.language_model.layers
        ]  # fmt: skip
        axes = [i % 3 for i, n in enumerate(MROPE_SECTION) for _ in range(n)]
        self.axes = torch.tensor(axes, device=model.device)

    def see(self, patches: Tensor, grid: Tensor) -> Tensor:
        """Slot patches [P, SLOTS, 1176] to visual tokens [P, CELLS, D]."""
        visual, t = self.model.model.visual, self.tables
        weight = visual.patch_embed.proj.weight
        x = linear(patches, weight.view(weight.shape[0], -1))
        cos, sin = t.cos[grid][:, None], t.sin[grid][:, None]
        masks = [t.windowed[grid][:, None], t.full[grid][:, None]]
        for i, w in enumerate(self.vision_weights):
            x = self.vision_block(x, cos, sin, masks[i in FULL_ATTENTION], *w)
        merger = visual.merger
        first, second = merger.mlp[0], merger.mlp[2]
        return self.merge(x, merger.ln_q.weight, first.weight, first.bias, second.weight, second.bias)

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [R, 1, L, head_dim] of positions [3, R, L]."""
        inverse = self.model.model.language_model.rotary_emb.inv_freq.float()
        angles = positions[self.axes].permute(1, 2, 0).float() * inverse
        angles = torch.cat((angles, angles), -1)[:, None]
        return angles.cos(), angles.sin()

    def read(self, visual: Tensor, batch: Packed, attend: Callable[..., Tensor], tap: int) -> tuple[Tensor, Tensor]:
        """Final hidden states [R*L, D] before the last norm, and those after layer ``tap``."""
        embed = self.model.model.language_model.embed_tokens.weight.to(visual.dtype)
        rows, length = batch.ids.shape
        # A product with one-hot rows and a copy by unique index have cheap backward passes; plain
        # lookups sum their gradients by sorting.
        words = torch.arange(embed.shape[0], device=embed.device)
        text = (batch.ids.flatten()[:, None] == words).to(embed.dtype) @ embed
        text = torch.cat((text, text.new_zeros(1, text.shape[1])))
        x = text.index_copy(0, batch.home, visual.flatten(0, 1))[:-1].view(rows, length, -1)
        cos, sin = self.rope(batch.positions)
        tapped = x
        for i, w in enumerate(self.text_weights):
            x = self.text_block(x, cos, sin, attend, *w)
            if i == tap:
                tapped = x
        return x.flatten(0, 1), tapped.flatten(0, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        """Final hidden states [n, D] to float32 logits over the vocabulary, by the tied embedding."""
        text = self.model.model.language_model
        return self.head(hidden, text.norm.weight, text.embed_tokens.weight)
