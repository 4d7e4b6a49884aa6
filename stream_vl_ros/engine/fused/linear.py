"""Matrix times vector: a decode step of one answer only reads weights, so what surrounds a product is done on the way.

cuBLAS reads them as fast or nearly so, but needs a launch for each norm, bias, activation and residual besides. With
more rows than one its tensor cores win (docs/performance.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stream_vl_ros.engine.fused.elementwise import add_rms_norm, silu_mul
from stream_vl_ros.engine.fused.toolkit import (
    cdiv,
    gdc_launch_dependents,
    gdc_wait,
    jit,
    launch_options,
    power_of_two,
    tl,
    uses_kernels,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """Columns of the result that one program makes, values of each that it reads at once, and its warps."""

    columns: int = 4
    depth: int = 1024
    warps: int = 4


@jit()
def _vector_kernel(
    x, weight, bias, norm, residual, out, columns_count, depth_count, eps,
    HAS_BIAS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr, GATED: tl.constexpr,
    EVEN: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < columns_count
    at = tl.arange(0, DEPTH)
    kind = x.dtype.element_ty
    w_at = weight + columns[:, None].to(tl.int64) * depth_count + at[None, :]
    up_at = w_at + columns_count.to(tl.int64) * depth_count
    total = tl.zeros((COLUMNS, DEPTH), tl.float32)
    total_up = tl.zeros((COLUMNS, DEPTH), tl.float32)
    squares = tl.zeros((DEPTH,), tl.float32)
    # The first weights are on their way before the kernel that makes x has ended.
    first = inside[:, None] & (at < depth_count)[None, :]
    w = tl.load(w_at, mask=first, other=0.0)
    u = w
    if GATED:
        u = tl.load(up_at, mask=first, other=0.0)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    for begin in range(0, depth_count, DEPTH):
        deep = begin + at < depth_count
        a = tl.load(x + begin + at, mask=deep, other=0.0).to(tl.float32)
        if HAS_NORM:
            # The norm's factor is applied to the product, at the end.
            squares += a * a
            a *= tl.load(norm + begin + at, mask=deep, other=0.0).to(tl.float32)
        total += w.to(tl.float32) * a[None, :]
        if GATED:
            total_up += u.to(tl.float32) * a[None, :]
        # Those of the next round, so that they are loaded while this one is summed up.
        after = begin + DEPTH
        if EVEN:
            more = inside & (after < depth_count)
            w = tl.load(w_at + after, mask=more[:, None], other=0.0)
            if GATED:
                u = tl.load(up_at + after, mask=more[:, None], other=0.0)
        else:
            more = inside[:, None] & (after + at < depth_count)[None, :]
            w = tl.load(w_at + after, mask=more, other=0.0)
            if GATED:
                u = tl.load(up_at + after, mask=more, other=0.0)
    value = tl.sum(total, axis=1)
    up = tl.sum(total_up, axis=1)
    if HAS_NORM:
        spread = tl.rsqrt(tl.sum(squares, axis=0) / depth_count + eps)
        value *= spread
        up *= spread
    if HAS_BIAS:
        value += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)
    result = value.to(kind)
    if GATED:
        gate = result.to(tl.float32)
        bent = (gate / (1.0 + tl.exp(-gate))).to(kind).to(tl.float32)
        result = (bent * up.to(kind).to(tl.float32)).to(kind)
    if HAS_RESIDUAL:
        before = tl.load(residual + columns, mask=inside, other=0.0)
        result = (result.to(tl.float32) + before.to(tl.float32)).to(kind)
    tl.store(out + columns, result.to(out.dtype.element_ty), mask=inside)


def linear(
    x: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    norm: tuple[Tensor, float] | None = None,
    residual: Tensor | None = None,
    gated: bool = False,
    early: bool = False,
    tile: Tile | None = None,
) -> Tensor:
    """One vector times a transposed matrix.

    Args:
        x: contiguous, (1, depth).
        weight: contiguous, (columns, depth); with `gated` (2 columns, depth), gate above up.
        bias: (columns,).
        norm: weight (depth,) and epsilon of an RMS norm that `x` goes through first.
        residual: contiguous, (1, columns), what the product is added to, in place.
        gated: return SiLU of the gate's product times the other one.
        early: start before the kernel in front of it has ended, as `toolkit.starts_early` allows. Only after kernels
            that do so themselves, or that are launched plainly.
        tile: how the work is cut; by default what was fastest on an H100.

    Returns:
        (1, columns), in the dtype of `x`; `residual` itself if there is one.
    """
    if not uses_kernels(x):
        product = F.linear(add_rms_norm(x, None, *norm) if norm else x, weight, bias)
        if gated:
            product = silu_mul(product)
        if residual is not None:
            residual += product
            return residual
        return product
    depth = x.shape[1]
    columns = weight.shape[0] // 2 if gated else weight.shape[0]
    made = residual is None
    out = torch.empty(1, columns, dtype=x.dtype, device=x.device) if made else residual
    tile = tile or pick_tile(columns, depth, gated)
    _vector_kernel[(cdiv(columns, tile.columns),)](
        x,
        weight,
        x if bias is None else bias,
        x if norm is None else norm[0],
        out,
        out,
        columns,
        depth,
        0.0 if norm is None else norm[1],
        HAS_BIAS=bias is not None,
        HAS_NORM=norm is not None,
        HAS_RESIDUAL=not made,
        GATED=gated,
        EVEN=depth % tile.depth == 0,
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        EARLY=early,
        num_warps=tile.warps,
        **launch_options(early),
    )
    assert out is not None
    return out


def pick_tile(columns: int, depth: int, gated: bool) -> Tile:
    """The fastest measured for shapes like those of Qwen2.5-VL-3B, on an H100."""
    if gated:
        return Tile(8, min(512, power_of_two(depth)), 4)
    if depth > 4096:
        return Tile(2, 2048, 8)
    return Tile(2 if columns <= depth else 4, min(1024, power_of_two(depth)), 4)
