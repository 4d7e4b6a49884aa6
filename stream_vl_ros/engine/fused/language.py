"""The language model's layers on a GPU: the arithmetic of transformers' modules, with fewer passes over memory.

Weights, rotary angles and the cache are those of the modules; test_fused.py holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stream_vl_ros.engine.attention import KeyValueParts, attend
from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.fused.chunk_attention import attend_chunk, can_attend_chunk
from stream_vl_ros.engine.fused.elementwise import add_rms_norm, rotate, silu_mul
from stream_vl_ros.engine.fused.linear import linear
from stream_vl_ros.engine.fused.toolkit import is_hopper
from stream_vl_ros.engine.fused.weights import join

# Tokens whose gate and up are in memory at once.
_PIECE = 768

# qkv (tokens, width), cosine and sine (tokens, dim), layer: attention's result, (tokens, heads x dim).
Attention = Callable[[Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one layer: queries, keys and values joined, gate and up joined."""

    norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    second_norm: Tensor
    gate_up: Tensor
    down: Tensor


class FusedLanguage:
    """Runs the layers of a Qwen2 language model."""

    def __init__(self, model: Any) -> None:
        """Joins the weights of a `Qwen2_5_VLForConditionalGeneration` or its sibling."""
        text = model.model.language_model
        config = model.config.text_config
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.dim: int = config.hidden_size // config.num_attention_heads
        self.scale = self.dim**-0.5
        weight = text.norm.weight
        # float32 products run outside of the tensor cores, in registers; GPUs before Hopper have less shared memory.
        self.widest_block = 32 if weight.dtype == torch.float32 else 128 if is_hopper(weight.device) else 64
        self._eps: float = config.rms_norm_eps
        self._rotary = text.rotary_emb
        self._embed = text.embed_tokens
        self._norm: Tensor = text.norm.weight
        self._head = model.lm_head
        self.vocabulary: int = model.lm_head.weight.shape[0]
        self.layers = [_layer(module) for module in text.layers]

    def forward(self, embeds: Tensor, positions: Tensor, cache: KVCache | BatchCache) -> Tensor:
        """As `ModelAdapter.forward`; `positions` are on the device, (3, rows, tokens)."""
        rows, tokens, width = embeds.shape
        cosine, sine = self.angles(embeds, positions)

        def attention(qkv: Tensor, cosine: Tensor, sine: Tensor, layer: int) -> Tensor:
            rotate(qkv, cosine, sine, self.heads + self.kv_heads, self.dim)
            by_head = qkv.view(rows, tokens, -1, self.dim).transpose(1, 2)
            query, key, value = torch.split(by_head, [self.heads, self.kv_heads, self.kv_heads], dim=1)
            parts, _ = cache.update(key, value, layer)
            if can_attend_chunk(qkv, parts):
                return attend_chunk(qkv, parts, self.heads, self.scale)
            return attend(query, parts, self.scale).transpose(1, 2).reshape(rows * tokens, -1)

        with cache.extend(tokens):
            residual, delta = self.run(embeds.reshape(-1, width).clone(), cosine, sine, attention)
            hidden = add_rms_norm(residual, delta, self._norm, self._eps)
        return hidden.view(rows, tokens, width)

    def read(self, embeds: Tensor, positions: Tensor, cache: KVCache) -> None:
        """As `forward` for one row of which only the keys and values are wanted."""
        tokens, width = embeds.shape[1:]
        cosine, sine = self.angles(embeds, positions)

        def store(qkv: Tensor, cosine: Tensor, sine: Tensor, layer: int) -> KeyValueParts:
            rotate(qkv, cosine, sine, self.heads + self.kv_heads, self.dim)
            by_head = qkv.view(1, tokens, -1, self.dim).transpose(1, 2)
            _, key, value = torch.split(by_head, [self.heads, self.kv_heads, self.kv_heads], dim=1)
            return cache.update(key, value, layer)[0]

        def attention(qkv: Tensor, cosine: Tensor, sine: Tensor, layer: int) -> Tensor:
            parts = store(qkv, cosine, sine, layer)
            if can_attend_chunk(qkv, parts):
                return attend_chunk(qkv, parts, self.heads, self.scale)
            query = qkv.view(1, tokens, -1, self.dim).transpose(1, 2)[:, : self.heads]
            return attend(query, parts, self.scale).transpose(1, 2).reshape(tokens, -1)

        with cache.extend(tokens):
            self.read_layers(embeds.reshape(-1, width).clone(), cosine, sine, attention, store)

    def read_layers(
        self, residual: Tensor, cosine: Tensor, sine: Tensor, attention: Attention, store: Callable[..., object]
    ) -> None:
        """All layers over tokens whose keys and values are all that is wanted: `store` is called for the last one."""
        residual, delta = self.run(residual, cosine, sine, attention, layers=len(self.layers) - 1)
        last = self.layers[-1]
        normed = add_rms_norm(residual, delta, last.norm, self._eps)
        store(F.linear(normed, last.qkv, last.qkv_bias), cosine, sine, len(self.layers) - 1)

    def angles(self, embeds: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of rotary positions, each (rows x tokens, dim), as transformers rounds them."""
        cosine, sine = self._rotary(embeds, positions)
        return cosine.reshape(-1, self.dim).contiguous(), sine.reshape(-1, self.dim).contiguous()

    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings of token ids."""
        embeds: Tensor = self._embed(ids)
        return embeds

    def run(
        self,
        residual: Tensor,
        cosine: Tensor,
        sine: Tensor,
        attention: Attention,
        *,
        early: bool = False,
        layers: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """All layers, or the first ones, over tokens side by side.

        Args:
            residual: embeddings (tokens, width); changed in place.
            early: of a single token's kernels, and of those of `attention`: see `linear.linear`.

        Returns:
            `residual`, and what is still to be added to it, if anything.
        """
        single = residual.shape[0] == 1
        delta: Tensor | None = None
        for index, w in enumerate(self.layers[:layers]):
            if single:
                qkv = linear(residual, w.qkv, bias=w.qkv_bias, norm=(w.norm, self._eps), early=early)
                linear(attention(qkv, cosine, sine, index), w.out, residual=residual, early=early)
                inner = linear(residual, w.gate_up, norm=(w.second_norm, self._eps), gated=True, early=early)
                linear(inner, w.down, residual=residual, early=early)
                continue
            normed = add_rms_norm(residual, delta, w.norm, self._eps)
            delta = F.linear(attention(F.linear(normed, w.qkv, w.qkv_bias), cosine, sine, index), w.out)
            delta = _think(add_rms_norm(residual, delta, w.second_norm, self._eps), w)
        return residual, delta

    def logits(self, residual: Tensor, delta: Tensor | None) -> Tensor:
        """Scores of the next token, (rows, vocabulary) in the model's dtype, for the few rows that `run` gave."""
        if delta is not None:
            residual = residual + delta
        if residual.shape[0] == 1:
            return linear(residual.contiguous(), self._head.weight, norm=(self._norm, self._eps))
        scores: Tensor = self._head(add_rms_norm(residual.contiguous(), None, self._norm, self._eps))
        return scores


def _think(normed: Tensor, w: Layer) -> Tensor:
    rows, width = normed.shape[0], w.down.shape[1]
    inner = torch.empty(rows, width, dtype=normed.dtype, device=normed.device)
    # Gate and up are the largest of all: in pieces, of sizes that matrix products like.
    for begin in range(0, rows, _PIECE):
        end = begin + _PIECE
        silu_mul(F.linear(normed[begin:end], w.gate_up), out=inner[begin:end])
    return F.linear(inner, w.down)


def _layer(module: Any) -> Layer:
    attention, mlp = module.self_attn, module.mlp
    qkv, bias = join([attention.q_proj, attention.k_proj, attention.v_proj])
    return Layer(
        norm=module.input_layernorm.weight,
        qkv=qkv,
        qkv_bias=bias,
        out=attention.o_proj.weight,
        second_norm=module.post_attention_layernorm.weight,
        gate_up=join([mlp.gate_proj, mlp.up_proj])[0],
        down=mlp.down_proj.weight,
    )
