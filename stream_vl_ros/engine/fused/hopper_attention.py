"""Attention of a chunk on Hopper GPUs: two warp groups compute while a third fetches.

The same work, cut in the same way, as `chunk_attention`'s kernel, and the same table. What Triton cannot be told is
written out in Gluon: keys and values come through the tensor memory accelerator, and the exponentials of a block are
taken while the tensor cores multiply the weights of the block before with its values. The scheme is FlashAttention-3's
(Shah et al. 2024, arXiv 2407.08608, section 3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stream_vl_ros.engine.fused.toolkit import INTERPRETED, cdiv

try:
    import triton
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.hopper import (
        fence_async_shared,
        mbarrier,
        tma,
        warpgroup_mma,
        warpgroup_mma_wait,
    )

    barrier = gl.thread_barrier if hasattr(gl, "thread_barrier") else gl.barrier  # by Triton's version
    HAS_GLUON = hasattr(tma, "make_tensor_descriptor") and hasattr(gl, "warp_specialize")
except (ImportError, AttributeError):  # none, or one too old
    HAS_GLUON = False

log = logging.getLogger(__name__)

# Queries of a program, in two halves; keys of a block, and blocks under way at once.
QUERIES, KEYS, STAGES = 128, 128, 2
DIM = 128


def _jit(*plain: str) -> Callable[[Callable[..., Any]], Any]:
    def make(function: Callable[..., Any]) -> Any:
        return gluon.jit(function, do_not_specialize=list(plain)) if HAS_GLUON else function

    return make


# Until it was found not to be so; and whether it has been seen to.
works = HAS_GLUON and not INTERPRETED
proven = False


def fits(device: torch.device, dim: int) -> bool:
    """Whether the kernel is made for heads of so many values, in half precision, on this device."""
    hopper = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == 9
    return works and hopper and dim == DIM


def give_up(error: Exception) -> None:
    """Leave the work to the kernel for all GPUs from here on."""
    global works
    works = False
    log.warning(
        "chunk attention for Hopper cannot be compiled by this Triton; the kernel for all GPUs runs, slower: %s: %s",
        type(error).__name__,
        next(iter(str(error).splitlines()), ""),
    )


@_jit()
def _produce(
    k_desc, v_desc, k_tiles, v_tiles, k_full, k_free, v_full, v_free, low, blocks,
    BLOCK_N: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    size: gl.constexpr = BLOCK_N * DIM * 2
    for i in range(blocks):
        slot = i % STAGES
        free = i // STAGES + 1 & 1
        mbarrier.wait(k_free.index(slot), free)
        mbarrier.expect(k_full.index(slot), size)
        tma.async_copy_global_to_shared(k_desc, [low + i * BLOCK_N, 0], k_full.index(slot), k_tiles.index(slot))
        mbarrier.wait(v_free.index(slot), free)
        mbarrier.expect(v_full.index(slot), size)
        tma.async_copy_global_to_shared(v_desc, [low + i * BLOCK_N, 0], v_full.index(slot), v_tiles.index(slot))


@_jit()
def _softmax(
    scores, top, mass, begin, first, past, total, scale,
    MASKED: gl.constexpr, BLOCK_N: gl.constexpr, SCORED: gl.constexpr,
):  # fmt: skip
    if MASKED:
        m = first + gl.arange(0, 64, gl.SliceLayout(1, SCORED))
        n = begin + gl.arange(0, BLOCK_N, gl.SliceLayout(0, SCORED))
        seen = (n[None, :] < total) & (n[None, :] <= past + m[:, None])
        scores = gl.where(seen, scores, float("-inf"))
    # Never infinite itself, so a row that has seen nothing yet gets weights of 0.
    higher = gl.maximum(top, gl.max(scores, axis=1) * scale)
    weights = gl.exp2(scores * scale - higher[:, None])
    shrink = gl.exp2(top - higher)
    return weights, higher, mass * shrink + gl.sum(weights, axis=1), shrink


@_jit()
def _step(
    i, q_tile, k_tiles, v_tiles, k_full, k_free, v_full, v_free, weights, acc, top, mass,
    low, blocks, first, past, total, scale,
    MASKED: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr, SCORED: gl.constexpr, SUMMED: gl.constexpr,
):  # fmt: skip
    slot = i % STAGES
    last = (i - 1) % STAGES
    zeros = gl.full([64, BLOCK_N], 0.0, gl.float32, SCORED)
    scores = warpgroup_mma(q_tile, k_tiles.index(slot).permute((1, 0)), zeros, use_acc=False, is_async=True)
    mbarrier.wait(v_full.index(last), (i - 1) // STAGES & 1)
    acc = warpgroup_mma(weights, v_tiles.index(last), acc, is_async=True)
    scores = warpgroup_mma_wait(1, deps=[scores])
    barrier()
    mbarrier.arrive(k_free.index(slot))
    new, top, mass, shrink = _softmax(
        scores, top, mass, low + i * BLOCK_N, first, past, total, scale, MASKED, BLOCK_N, SCORED
    )
    # Waiting for the next keys here, not at the next step, keeps the assembler from moving the exponentials behind the
    # wait for the values.
    mbarrier.wait(k_full.index((i + 1) % STAGES), (i + 1) // STAGES & 1, pred=i + 1 < blocks)
    acc = warpgroup_mma_wait(0, deps=[acc])
    barrier()
    mbarrier.arrive(v_free.index(last))
    acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, SUMMED))[:, None]
    weights = gl.convert_layout(new.to(weights.dtype), weights.type.layout)
    return weights, acc, top, mass


@_jit()
def _consume(
    qkv, out, out_lse, q_tile, k_tiles, v_tiles, k_full, k_free, v_full, v_free,
    low, blocks, plain, first, head, split, tokens, past, total, scale,
    WIDTH: gl.constexpr, HEADS: gl.constexpr, DIM: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    kind: gl.constexpr = qkv.dtype.element_ty
    scored: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    summed: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DIM, 16])
    weighed: gl.constexpr = gl.DotOperandLayout(0, summed, 2)
    loaded: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])
    m = first + gl.arange(0, 64, gl.SliceLayout(1, loaded))
    d = gl.arange(0, DIM, gl.SliceLayout(0, loaded))
    place = m[:, None].to(gl.int64) * WIDTH + head * DIM + d[None, :]
    q_tile.store(gl.load(qkv + place, mask=m[:, None] < tokens, other=0.0))
    fence_async_shared()
    barrier()
    top = gl.full([64], -1e30, gl.float32, gl.SliceLayout(1, scored))
    mass = gl.full([64], 0.0, gl.float32, gl.SliceLayout(1, scored))
    acc = gl.full([64, DIM], 0.0, gl.float32, summed)
    mbarrier.wait(k_full.index(0), 0)
    zeros = gl.full([64, BLOCK_N], 0.0, gl.float32, scored)
    scores = warpgroup_mma(q_tile, k_tiles.index(0).permute((1, 0)), zeros, use_acc=False, is_async=True)
    scores = warpgroup_mma_wait(0, deps=[scores])
    barrier()
    mbarrier.arrive(k_free.index(0))
    new, top, mass, _ = _softmax(scores, top, mass, low, first, past, total, scale, True, BLOCK_N, scored)
    weights = gl.convert_layout(new.to(kind), weighed)
    mbarrier.wait(k_full.index(1 % STAGES), 1 // STAGES & 1, pred=blocks > 1)
    for i in range(1, plain):
        weights, acc, top, mass = _step(
            i, q_tile, k_tiles, v_tiles, k_full, k_free, v_full, v_free, weights, acc, top, mass,
            low, blocks, first, past, total, scale, False, BLOCK_N, STAGES, scored, summed,
        )  # fmt: skip
    for i in range(gl.maximum(plain, 1), blocks):
        weights, acc, top, mass = _step(
            i, q_tile, k_tiles, v_tiles, k_full, k_free, v_full, v_free, weights, acc, top, mass,
            low, blocks, first, past, total, scale, True, BLOCK_N, STAGES, scored, summed,
        )  # fmt: skip
    last = (blocks - 1) % STAGES
    mbarrier.wait(v_full.index(last), (blocks - 1) // STAGES & 1)
    acc = warpgroup_mma(weights, v_tiles.index(last), acc, is_async=True)
    acc = warpgroup_mma_wait(0, deps=[acc])
    acc = acc / gl.convert_layout(gl.where(mass > 0, mass, 1.0), gl.SliceLayout(1, summed))[:, None]
    m = first + gl.arange(0, 64, gl.SliceLayout(1, summed))
    d = gl.arange(0, DIM, gl.SliceLayout(0, summed))
    place = (split * tokens + m[:, None]).to(gl.int64) * (HEADS * DIM) + head * DIM + d[None, :]
    gl.store(out + place, acc.to(kind), mask=m[:, None] < tokens)
    m = first + gl.arange(0, 64, gl.SliceLayout(1, scored))
    lse = gl.where(mass > 0, top + gl.log2(mass), float("-inf"))
    gl.store(out_lse + (split * tokens + m) * HEADS + head, lse, mask=m < tokens)


@_jit("tokens", "layer")
def _chunk_kernel(
    qkv, own, shared, items, at, new, out, out_lse, tokens, scale, layer,
    LAYERS: gl.constexpr, HEADS: gl.constexpr, KV_HEADS: gl.constexpr, DIM: gl.constexpr,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    head = gl.program_id(0)
    tile = gl.num_programs(1) - 1 - gl.program_id(1)  # those with the most keys first
    split = gl.program_id(2)
    width: gl.constexpr = (HEADS + 2 * KV_HEADS) * DIM
    kind: gl.constexpr = qkv.dtype.element_ty
    which = gl.load(items + split * 3).to(gl.int32)
    part = gl.load(items + split * 3 + 1).to(gl.int32)
    splits = gl.load(items + split * 3 + 2).to(gl.int32)
    if splits == 0:
        return
    entry = shared + gl.maximum(which - 1, 0) * (2 + 2 * LAYERS)
    fresh = gl.load(new).to(gl.int32)
    past = gl.load(at).to(gl.int32)
    total = past + fresh
    end = past + gl.minimum(fresh, (tile + 1) * BLOCK_M)
    clear = gl.minimum(past + tile * BLOCK_M + 1, end)  # a tile of nothing but padding ends before it begins
    stride = gl.load(own + 1)
    k_start = gl.load(own + 2 + 2 * layer)
    v_start = gl.load(own + 3 + 2 * layer)
    if which != 0:
        total = gl.load(entry).to(gl.int32)
        end = total
        clear = total
        past = total
        stride = gl.load(entry + 1)
        k_start = gl.load(entry + 2 + 2 * layer)
        v_start = gl.load(entry + 3 + 2 * layer)
    each = gl.cdiv(gl.cdiv(end, BLOCK_N), splits) * BLOCK_N
    low = part * each
    high = gl.minimum(end, low + each)
    blocks = gl.cdiv(gl.maximum(high - low, 0), BLOCK_N)
    # Blocks that every query of the tile sees whole.
    plain = gl.maximum(gl.minimum(clear, high) - low, 0) // BLOCK_N
    first = tile * BLOCK_M
    if blocks == 0:
        rows: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
        m = first + gl.arange(0, BLOCK_M, rows)
        nothing = gl.full([BLOCK_M], float("-inf"), gl.float32, rows)
        gl.store(out_lse + (split * tokens + m) * HEADS + head, nothing, mask=m < tokens)
        return
    base = (head // (HEADS // KV_HEADS)).to(gl.int64) * stride
    keys = k_start.to(gl.pointer_type(kind)) + base
    values = v_start.to(gl.pointer_type(kind)) + base
    tiled: gl.constexpr = gl.NVMMASharedLayout.get_default_for([BLOCK_N, DIM], kind)
    # Beyond their end, where nobody may have written yet, they read zeros.
    k_desc = tma.make_tensor_descriptor(keys, [total, DIM], [DIM, 1], [BLOCK_N, DIM], tiled)
    v_desc = tma.make_tensor_descriptor(values, [total, DIM], [DIM, 1], [BLOCK_N, DIM], tiled)
    queried: gl.constexpr = gl.NVMMASharedLayout.get_default_for([64, DIM], kind)
    q_tiles = gl.allocate_shared_memory(kind, [2, 64, DIM], queried)
    k_tiles = gl.allocate_shared_memory(kind, [STAGES, BLOCK_N, DIM], tiled)
    v_tiles = gl.allocate_shared_memory(kind, [STAGES, BLOCK_N, DIM], tiled)
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    k_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    v_free = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(k_full.index(i), count=1)
        mbarrier.init(k_free.index(i), count=2)
        mbarrier.init(v_full.index(i), count=1)
        mbarrier.init(v_free.index(i), count=2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (_consume, (
                qkv, out, out_lse, q_tiles.index(0), k_tiles, v_tiles, k_full, k_free, v_full, v_free,
                low, blocks, plain, first, head, split, tokens, past, total, scale,
                width, HEADS, DIM, BLOCK_N, STAGES,
            )),
            (_consume, (
                qkv, out, out_lse, q_tiles.index(1), k_tiles, v_tiles, k_full, k_free, v_full, v_free,
                low, blocks, plain, first + 64, head, split, tokens, past, total, scale,
                width, HEADS, DIM, BLOCK_N, STAGES,
            )),
            (_produce, (
                k_desc, v_desc, k_tiles, v_tiles, k_full, k_free, v_full, v_free, low, blocks, BLOCK_N, DIM, STAGES,
            )),
        ],
        [4, 1],
        [240, 24],
    )  # fmt: skip


def attend_table(
    qkv: Tensor,
    table: dict[str, Tensor],
    out: Tensor,
    lse: Tensor,
    layer: int,
    heads: int,
    kv_heads: int,
    scale: float,
) -> None:
    """Attention of each part of the keys by itself; arguments as `chunk_attention.TableAttention` has them.

    Args:
        qkv: (tokens, width) with rotary positions applied; their keys and values are in the cache.
        out: (parts, tokens, heads x dim), written to.
        lse: (parts, tokens, heads), float32, to the base 2, written to.
        scale: of the scores, times log2(e).
    """
    global proven
    parts, tokens = out.shape[:2]
    # Where a program puts its descriptors; a captured graph keeps it in its pool.
    triton.set_allocator(_scratch)
    layers = (table["own"].shape[0] - 2) // 2
    _chunk_kernel[(heads, cdiv(tokens, QUERIES), parts)](
        qkv, table["own"], table["shared"], table["items"], table["past"], table["fresh"], out, lse, tokens, scale,
        layer,
        LAYERS=layers, HEADS=heads, KV_HEADS=kv_heads, DIM=DIM, BLOCK_M=QUERIES, BLOCK_N=KEYS, STAGES=STAGES,
        num_warps=4,
    )  # fmt: skip
    proven = True


def _scratch(size: int, alignment: int, stream: int | None) -> Tensor:
    return torch.empty(size, dtype=torch.int8, device="cuda")
