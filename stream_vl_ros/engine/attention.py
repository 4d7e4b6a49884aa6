"""Attention over [shared segments | own tokens], without copying or repeating what is shared.

softmax over a concatenation of key ranges can be computed range by range: each gives its output and the
log-sum-exp of its scores, and the outputs are averaged with the softmax of those log-sum-exps (the merge step of
FlashAttention, arXiv 2205.14135, and of split-KV decoding). A range that all rows of a batch share is read
once: the rows, and the query heads of one key-value head, are folded into the query length.

Registered with transformers under `ATTENTION_NAME`; its modelling code runs unchanged and hands over whatever the
cache's `update` returned, here a `KeyValueParts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from stream_vl_ros.engine import few_queries

ATTENTION_NAME = "stream_vl_segments"

# query, key, value: (rows, heads, tokens, head_dim), the same number of heads in all three; scale; causal.
# Returns the output, shaped and typed like the query, and the log-sum-exp, float32 (rows, heads, query tokens).
Kernel = Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class SharedRange:
    """Tokens that several rows read: keys and values, each (1, kv_heads, tokens, head_dim).

    `rows` holds the indices of those rows, int64 (readers,); None if all do.
    """

    key: Tensor
    value: Tensor
    rows: Tensor | None = None


@dataclass(frozen=True, slots=True)
class KeyValueParts:
    """What one layer attends to.

    Attributes:
        shared: what rows share, seen whole by every token of the rows that read it.
        own: keys and values of each row alone, each (rows, kv_heads, tokens, head_dim).
        past: how many of the own tokens came before this forward pass; the others are causal among themselves.
        lengths: own tokens of each row, the new one included, int64 (rows,), where they differ; only for passes of one
            token, and `past` means nothing then.
        hidden: which own tokens each new one does not see, bool (rows, tokens, tokens), in place of the causal order;
            only where all own tokens are new.
    """

    shared: tuple[SharedRange, ...]
    own: tuple[Tensor, Tensor]
    past: int
    lengths: Tensor | None = None
    hidden: Tensor | None = None


def math_kernel(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """The definition, in float32 and plain PyTorch: runs anywhere, and every other kernel is tested against it."""
    hidden = None
    if causal:
        hidden = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).triu(1)
    return _masked_attention(query, key, value, scale, hidden)


def _masked_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, hidden: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Softmax attention without the keys where `hidden` is True: bool, broadcast to (rows, heads, queries, keys)."""
    scores = torch.matmul(query.float() * scale, key.float().transpose(-1, -2))
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    lse = torch.logsumexp(scores, dim=-1)
    out = torch.matmul(torch.exp(scores - lse[..., None]), value.float())
    return out.to(query.dtype), lse


def cpu_kernel(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """PyTorch's blocked CPU kernel, and our own for steps of decoding: no score matrix in memory."""
    if few_queries.suits(query, key, value, causal):
        return few_queries.attend(query, key, value, scale)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)
    return out, lse


def cuda_flash_kernel(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """FlashAttention as shipped with PyTorch; float16 and bfloat16."""
    out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, causal, False, scale=scale
    )
    return out, lse


def cuda_efficient_kernel(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """PyTorch's memory-efficient CUDA kernel; float32 too."""
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, None, True, 0.0, causal, scale=scale
    )
    return out, lse[..., : query.shape[2]]


def pick_kernel(query: Tensor) -> Kernel:
    """The fastest kernel that is exact for tensors like this one."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda:
        return cuda_flash_kernel if half and query.shape[-1] % 8 == 0 else cuda_efficient_kernel
    if query.device.type == "cpu":
        return cpu_kernel
    return math_kernel


def attend(query: Tensor, parts: KeyValueParts, scale: float, kernel: Kernel | None = None) -> Tensor:
    """Attention of `query` (rows, heads, tokens, head_dim) over all parts; the same shape and dtype comes back.

    Query token j sees all shared tokens, all past ones, and the new tokens 0..j, or what `parts.hidden` leaves of them.
    """
    kernel = kernel or pick_kernel(query)
    results = [_attend_shared(query, part, scale, kernel) for part in parts.shared]
    key, value = parts.own
    if parts.hidden is not None:
        results.append(_attend_hidden(query, key, value, scale, parts.hidden))
    elif parts.lengths is not None:
        results.append(_attend_uneven(query, key, value, scale, parts.lengths))
    elif query.shape[2] == 1:
        results.append(_attend_rows(query, key, value, scale, kernel, causal=False))
    else:
        old, new = slice(0, parts.past), slice(parts.past, None)
        if parts.past:
            results.append(_attend_rows(query, key[:, :, old], value[:, :, old], scale, kernel, causal=False))
        results.append(_attend_rows(query, key[:, :, new], value[:, :, new], scale, kernel, causal=True))
    return merge(results, query.dtype)


def merge(results: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> Tensor:
    """Join outputs over disjoint key ranges by their log-sum-exps, in float32."""
    if len(results) == 1:
        return results[0][0]
    weights = torch.softmax(torch.stack([lse for _, lse in results]).float(), dim=0)
    out = sum(w[..., None] * o for w, (o, _) in zip(weights, results, strict=True))
    assert isinstance(out, Tensor)
    return out.to(dtype)


def _attend_shared(query: Tensor, part: SharedRange, scale: float, kernel: Kernel) -> tuple[Tensor, Tensor]:
    if part.rows is not None:
        some, some_lse = _attend_shared(query[part.rows], SharedRange(part.key, part.value), scale, kernel)
        # Nothing of this range is visible to the other rows: a log-sum-exp of nothing.
        out = torch.zeros_like(query).index_copy_(0, part.rows, some)
        lse = torch.full(query.shape[:3], -torch.inf, device=query.device).index_copy_(0, part.rows, some_lse)
        return out, lse
    rows, heads, tokens, dim = query.shape
    kv_heads = part.key.shape[1]
    group = heads // kv_heads
    folded = query.view(rows, kv_heads, group, tokens, dim).transpose(0, 1).reshape(1, kv_heads, -1, dim)
    out, lse = kernel(folded, part.key, part.value, scale, False)
    out = out.reshape(kv_heads, rows, group, tokens, dim).transpose(0, 1).reshape(rows, heads, tokens, dim)
    lse = lse.reshape(kv_heads, rows, group, tokens).transpose(0, 1).reshape(rows, heads, tokens)
    return out, lse


def _attend_uneven(query: Tensor, key: Tensor, value: Tensor, scale: float, lengths: Tensor) -> tuple[Tensor, Tensor]:
    # Few keys (the rows' own questions and answers), so the score matrix is small.
    rows, heads, tokens, dim = query.shape
    kv_heads = key.shape[1]
    hidden = torch.arange(key.shape[2], device=key.device) >= lengths[:, None]
    folded = query.reshape(rows, kv_heads, heads // kv_heads * tokens, dim)
    out, lse = _masked_attention(folded, key, value, scale, hidden[:, None, None])
    return out.reshape(rows, heads, tokens, dim), lse.reshape(rows, heads, tokens)


def _attend_hidden(query: Tensor, key: Tensor, value: Tensor, scale: float, hidden: Tensor) -> tuple[Tensor, Tensor]:
    # Rows are questions and their options, so the score matrix is small here as well.
    group = query.shape[1] // key.shape[1]
    return _masked_attention(query, _repeated(key, group), _repeated(value, group), scale, hidden[:, None])


def _attend_rows(
    query: Tensor, key: Tensor, value: Tensor, scale: float, kernel: Kernel, causal: bool
) -> tuple[Tensor, Tensor]:
    rows, heads, tokens, dim = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    if not causal:
        out, lse = kernel(query.reshape(rows, kv_heads, group * tokens, dim), key, value, scale, False)
        return out.reshape(rows, heads, tokens, dim), lse.reshape(rows, heads, tokens)
    # Folding would mix up which query is how late, so here the few new keys are repeated instead.
    return kernel(query, _repeated(key, group), _repeated(value, group), scale, True)


def _repeated(x: Tensor, group: int) -> Tensor:
    if group == 1:
        return x
    rows, kv_heads, tokens, dim = x.shape
    return x[:, :, None].expand(-1, -1, group, -1, -1).reshape(rows, kv_heads * group, tokens, dim)


def _attention_for_transformers(
    module: nn.Module,
    query: Tensor,
    key: Tensor | KeyValueParts,
    value: Tensor | KeyValueParts,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[Tensor, None]:
    if not isinstance(key, KeyValueParts):
        # The same model used natively, with a cache of transformers' own or none.
        native: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return native
    out = attend(query, key, scaling if scaling is not None else query.shape[-1] ** -0.5)
    return out.transpose(1, 2), None


def register() -> None:
    """Make `ATTENTION_NAME` known to transformers; doing it twice does no harm."""
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, _attention_for_transformers)
    ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
