"""What lies between two matrix products, each in one pass over memory.

Every function is there twice: plain PyTorch, which is the definition and runs anywhere, and a Triton kernel that is
used on CUDA. Both round where transformers' modules round, but for rotary positions, which are rounded once at the end.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stream_vl_ros.engine.fused.toolkit import cdiv, jit, power_of_two, tl, uses_kernels

_SILU_BLOCK = 1024


@jit()
def _add_rms_norm_kernel(x, residual, weight, out, columns, eps, ADD: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    value = tl.load(residual + row * columns + at, mask=inside, other=0.0)
    if ADD:
        value = (value.to(tl.float32) + tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)).to(
            value.dtype
        )
        tl.store(residual + row * columns + at, value, mask=inside)
    wide = value.to(tl.float32)
    spread = tl.rsqrt(tl.sum(wide * wide, axis=0) / columns + eps)
    gain = tl.load(weight + at, mask=inside, other=0.0)
    normed = (wide * spread).to(value.dtype).to(tl.float32) * gain.to(tl.float32)
    tl.store(out + row * columns + at, normed.to(value.dtype), mask=inside)


def add_rms_norm(residual: Tensor, x: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    """Add `x` to `residual` in place, if there is one, and return the RMS norm of the sum.

    Both are contiguous, (tokens, width), in the model's dtype, as is what is returned.
    """
    if not uses_kernels(residual):
        if x is not None:
            residual += x
        wide = residual.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return weight * normed.to(residual.dtype)
    rows, columns = residual.shape
    out = torch.empty_like(residual)
    block = power_of_two(columns)
    _add_rms_norm_kernel[(rows,)](
        residual if x is None else x,
        residual,
        weight,
        out,
        columns,
        eps,
        ADD=x is not None,
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),
    )
    return out


@jit()
def _rotate_kernel(
    qkv, cosine, sine, width,
    HEADS: tl.constexpr, DIM: tl.constexpr, HEADS_BLOCK: tl.constexpr, HALF_BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, HEADS_BLOCK)[:, None]
    at = tl.arange(0, HALF_BLOCK)[None, :]
    inside = (head < HEADS) & (at < DIM // 2)
    low = qkv + token * width + head * DIM + at
    high = low + DIM // 2
    a = tl.load(low, mask=inside, other=0.0)
    b = tl.load(high, mask=inside, other=0.0)
    c = tl.load(cosine + token * DIM + at, mask=at < DIM // 2, other=0.0).to(tl.float32)
    s = tl.load(sine + token * DIM + at, mask=at < DIM // 2, other=0.0).to(tl.float32)
    wide_a = a.to(tl.float32)
    wide_b = b.to(tl.float32)
    tl.store(low, (wide_a * c - wide_b * s).to(a.dtype), mask=inside)
    tl.store(high, (wide_b * c + wide_a * s).to(a.dtype), mask=inside)


def rotate(qkv: Tensor, cosine: Tensor, sine: Tensor, heads: int, dim: int) -> None:
    """Apply rotary positions, in place, to the first `heads` heads of every token.

    Args:
        qkv: contiguous, (tokens, width), heads of `dim` values side by side.
        cosine: contiguous, (tokens, dim), the same in both halves; float32 or the model's dtype.
        sine: the same.
    """
    tokens, width = qkv.shape
    if not uses_kernels(qkv):
        part = qkv[:, : heads * dim].view(tokens, heads, dim)
        low, high = part.float().chunk(2, dim=-1)
        turned = torch.cat((-high, low), dim=-1)
        part.copy_(part.float() * cosine[:, None].float() + turned * sine[:, None].float())
        return
    _rotate_kernel[(tokens,)](
        qkv,
        cosine,
        sine,
        width,
        HEADS=heads,
        DIM=dim,
        HEADS_BLOCK=power_of_two(heads),
        HALF_BLOCK=power_of_two(dim // 2),
        num_warps=4,
    )


@jit()
def _silu_mul_kernel(gate_up, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < columns
    gate = tl.load(gate_up + row * 2 * columns + at, mask=inside, other=0.0)
    up = tl.load(gate_up + row * 2 * columns + columns + at, mask=inside, other=0.0)
    wide = gate.to(tl.float32)
    bent = (wide / (1.0 + tl.exp(-wide))).to(gate.dtype).to(tl.float32)
    tl.store(out + row * columns + at, (bent * up.to(tl.float32)).to(gate.dtype), mask=inside)


def silu_mul(gate_up: Tensor, out: Tensor | None = None) -> Tensor:
    """SiLU of the first half of the columns times the second half: (tokens, 2 n) to (tokens, n), contiguous."""
    rows, double = gate_up.shape
    columns = double // 2
    if out is None:
        out = torch.empty(rows, columns, dtype=gate_up.dtype, device=gate_up.device)
    if not uses_kernels(gate_up):
        gate, up = gate_up.chunk(2, dim=-1)
        return torch.mul(F.silu(gate), up, out=out)
    _silu_mul_kernel[(rows, cdiv(columns, _SILU_BLOCK))](gate_up, out, columns, BLOCK=_SILU_BLOCK, num_warps=4)
    return out
