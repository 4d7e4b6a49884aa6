"""Attention of a chunk over everything before it and, causally, over itself: one launch, straight from the cache.

The keys of a stream lie in one buffer, old and new, and those that a fork shares in another one or two: nothing has to
be joined, repeated or copied. The work is cut along the keys as well, so that the last round over the chip is full; the
pieces are merged by their log-sum-exps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from stream_vl_ros.engine.attention import KeyValueParts
from stream_vl_ros.engine.fused import hopper_attention
from stream_vl_ros.engine.fused.attention import store_tokens
from stream_vl_ros.engine.fused.pieces import Item, Work, best_cut
from stream_vl_ros.engine.fused.toolkit import cdiv, is_hopper, jit, power_of_two, tl, uses_kernels

_LOG2_E = 1.4426950408889634
# Fewer tokens than these are no work for whole tiles.
LEAST_TOKENS = 64
# Columns of an item: which range, which part of it, of how many.
ITEM = 3
# Values in front of the addresses of a shared range: its length, and the stride between heads.
SHARED_HEAD = 2


@dataclass(frozen=True, slots=True)
class ChunkTile:
    """Queries and keys of a block, warps of a program, and blocks under way at once."""

    queries: int = 128
    keys: int = 64
    warps: int = 8
    stages: int = 3
    resident: int = 1  # programs per multiprocessor


@jit("past", "tokens", "splits", "layer")
def _chunk_kernel(
    qkv, keys, values, own, shared, items, at, new, out, out_lse, past, tokens, splits, stride, scale, layer,
    TABLE: tl.constexpr, LAYERS: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    tile = tl.num_programs(1) - 1 - tl.program_id(1)  # those with the most keys first
    split = tl.program_id(2)
    width: tl.constexpr = (HEADS + 2 * KV_HEADS) * DIM
    kind = qkv.dtype.element_ty
    part = split
    # Keys there are, those that the last query of the tile sees, and those that all of its queries do.
    total = past + tokens
    end = past + tl.minimum(tokens, (tile + 1) * BLOCK_M)
    clear = past + tile * BLOCK_M + 1
    if TABLE:
        which = tl.load(items + split * 3).to(tl.int32)
        part = tl.load(items + split * 3 + 1).to(tl.int32)
        splits = tl.load(items + split * 3 + 2).to(tl.int32)
        if splits == 0:
            return
        mine = which == 0
        entry = shared + tl.maximum(which - 1, 0) * (2 + 2 * LAYERS)
        length = tl.load(entry).to(tl.int32)
        fresh = tl.load(new).to(tl.int32)
        past = tl.load(at).to(tl.int32)
        total = tl.where(mine, past + fresh, length)
        end = tl.where(mine, past + tl.minimum(fresh, (tile + 1) * BLOCK_M), length)
        clear = tl.where(mine, past + tile * BLOCK_M + 1, length)
        clear = tl.minimum(clear, end)  # a tile of nothing but padding
        past = tl.where(mine, past, length)
        stride = tl.multiple_of(tl.where(mine, tl.load(own + 1), tl.load(entry + 1)), 16)
        k_start = tl.where(mine, tl.load(own + 2 + 2 * layer), tl.load(entry + 2 + 2 * layer))
        v_start = tl.where(mine, tl.load(own + 3 + 2 * layer), tl.load(entry + 3 + 2 * layer))
        keys = tl.multiple_of(k_start.to(tl.pointer_type(kind)), 16)
        values = tl.multiple_of(v_start.to(tl.pointer_type(kind)), 16)
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.arange(0, BLOCK_N)
    d = tl.arange(0, DIM)
    inside = m < tokens
    each = tl.cdiv(tl.cdiv(end, BLOCK_N), splits) * BLOCK_N
    low = part * each
    high = tl.minimum(end, low + each)
    # Blocks that every query of the tile sees whole.
    plain = tl.maximum(low, tl.minimum(clear // BLOCK_N * BLOCK_N, high))
    base = (head // (HEADS // KV_HEADS)).to(tl.int64) * stride
    k_at = keys + base + n[:, None] * DIM + d[None, :]
    v_at = values + base + n[:, None] * DIM + d[None, :]
    q = tl.load(qkv + m[:, None].to(tl.int64) * width + head * DIM + d[None, :], mask=inside[:, None], other=0.0)
    top = tl.full((BLOCK_M,), -1e30, tl.float32)
    mass = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, DIM), tl.float32)
    for begin in range(low, plain, BLOCK_N):
        k = tl.load(k_at + begin * DIM)
        scores = tl.dot(q, tl.trans(k))
        higher = tl.maximum(top, tl.max(scores, axis=1) * scale)
        weights = tl.exp2(scores * scale - higher[:, None])
        shrink = tl.exp2(top - higher)
        mass = mass * shrink + tl.sum(weights, axis=1)
        acc = acc * shrink[:, None]
        v = tl.load(v_at + begin * DIM)
        acc = tl.dot(weights.to(kind), v, acc)
        top = higher
    for begin in range(plain, high, BLOCK_N):
        seen = begin + n < total
        k = tl.load(k_at + begin * DIM, mask=seen[:, None], other=0.0)
        scores = tl.dot(q, tl.trans(k)) * scale
        visible = seen[None, :] & (begin + n[None, :] <= past + m[:, None])
        scores = tl.where(visible, scores, -1e30)
        higher = tl.maximum(top, tl.max(scores, axis=1))
        weights = tl.where(scores > -1e29, tl.exp2(scores - higher[:, None]), 0.0)
        shrink = tl.exp2(top - higher)
        mass = mass * shrink + tl.sum(weights, axis=1)
        acc = acc * shrink[:, None]
        v = tl.load(v_at + begin * DIM, mask=seen[:, None], other=0.0)
        acc = tl.dot(weights.to(kind), v, acc)
        top = higher
    place = (split * tokens + m[:, None]).to(tl.int64) * (HEADS * DIM) + head * DIM + d[None, :]
    result = acc / tl.where(mass > 0, mass, 1.0)[:, None]
    tl.store(out + place, result.to(kind), mask=inside[:, None])
    if TABLE or splits > 1:
        lse = tl.where(mass > 0, top + tl.log2(mass), float("-inf"))
        tl.store(out_lse + (split * tokens + m) * HEADS + head, lse, mask=inside)


@jit("tokens", "splits")
def _join_kernel(
    parts, lses, count, tokens, splits,
    TABLE: tl.constexpr, HEADS: tl.constexpr, HEADS_BLOCK: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    if TABLE:
        splits = tl.load(count).to(tl.int32)
    if splits == 1:
        return
    head = tl.arange(0, HEADS_BLOCK)
    d = tl.arange(0, DIM)
    inside = head < HEADS
    # The first piece is empty for nobody.
    top = tl.load(lses + token * HEADS + head, mask=inside, other=0.0)
    place = token * (HEADS * DIM) + head[:, None] * DIM + d[None, :]
    acc = tl.load(parts + place, mask=inside[:, None], other=0.0).to(tl.float32)
    mass = tl.full((HEADS_BLOCK,), 1.0, tl.float32)
    for split in range(1, splits):
        lse = tl.load(lses + (split * tokens + token) * HEADS + head, mask=inside, other=0.0)
        place = (split * tokens + token) * (HEADS * DIM) + head[:, None] * DIM + d[None, :]
        # A program without keys has written nothing else.
        there = inside & (lse > float("-inf"))
        part = tl.load(parts + place, mask=there[:, None], other=0.0).to(tl.float32)
        higher = tl.maximum(top, lse)
        shrink = tl.exp2(top - higher)
        weight = tl.exp2(lse - higher)
        mass = mass * shrink + weight
        acc = acc * shrink[:, None] + part * weight[:, None]
        top = higher
    place = token * (HEADS * DIM) + head[:, None] * DIM + d[None, :]
    tl.store(parts + place, (acc / mass[:, None]).to(parts.dtype.element_ty), mask=inside[:, None])


def can_attend_chunk(qkv: Tensor, parts: KeyValueParts) -> bool:
    """Whether `attend_chunk` is made for this: one row, half precision, all tokens its own and in causal order."""
    plain = not parts.shared and parts.hidden is None and parts.lengths is None and parts.own[0].shape[0] == 1
    half = qkv.dtype in (torch.float16, torch.bfloat16)
    return plain and half and qkv.shape[0] >= LEAST_TOKENS and uses_kernels(qkv)


def attend_chunk(
    qkv: Tensor, parts: KeyValueParts, heads: int, scale: float, tile: ChunkTile | None = None, splits: int = 0
) -> Tensor:
    """Attention of new tokens over a row's own ones, theirs included.

    Args:
        qkv: contiguous, (tokens, width), queries in front; rotary positions are applied.
        parts: with the new tokens' keys and values at the end.
        tile: how the work is cut; by default what was fastest on an H100.
        splits: pieces along the keys, 0 for the number that fills the chip best.

    Returns:
        (tokens, heads x dim).
    """
    key, value = parts.own
    _, kv_heads, _, dim = key.shape
    tokens = qkv.shape[0]
    tile = tile or pick_chunk_tile(qkv.device)
    work = Work(tokens, heads, tile.queries, tile.keys)
    if not splits:
        splits = len(best_cut((parts.past + tokens,), work, _slots(qkv.device) * tile.resident) or ())
    out = torch.empty(splits, tokens, heads * dim, dtype=qkv.dtype, device=qkv.device)
    lse = torch.empty(splits, tokens, heads, dtype=torch.float32, device=qkv.device) if splits > 1 else out
    _chunk_kernel[(heads, work.tiles, splits)](
        qkv, key, value, qkv, qkv, qkv, qkv, qkv, out, lse, parts.past, tokens, splits, key.stride(1), scale * _LOG2_E,
        0, TABLE=False, LAYERS=0, HEADS=heads, KV_HEADS=kv_heads, DIM=dim, BLOCK_M=tile.queries, BLOCK_N=tile.keys,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    if splits > 1:
        _join_kernel[(tokens,)](
            out, lse, qkv, tokens, splits, TABLE=False, HEADS=heads, HEADS_BLOCK=power_of_two(heads), DIM=dim
        )
    return out[0]


class TableAttention:
    """The same for a captured graph: where the keys are, and how many, is read from a table on the device.

    The table has int64 views: `own` (2 + 2 layers), `past`, `fresh` and `slots` (1,) as `store_tokens` reads them,
    `shared` (most - 1, 2 + 2 layers), `items` (most, 3), for what `items` here says, and `count` (1,) of them.
    """

    def __init__(
        self, tokens: int, heads: int, kv_heads: int, dim: int, table: dict[str, Tensor], tile: ChunkTile | None = None
    ) -> None:
        """For so many tokens, or fewer; `past` of them are there before the `fresh` ones."""
        self._tokens, self._table = tokens, table
        self._shape = {"HEADS": heads, "KV_HEADS": kv_heads, "DIM": dim}
        device = table["own"].device
        self.hopper = tile is None and hopper_attention.fits(device, dim)
        self._tile = tile or pick_chunk_tile(device)
        self._most = table["items"].shape[0]
        self._layers = (table["shared"].shape[1] - SHARED_HEAD) // 2

    def items(self, own: int, shared: Sequence[int]) -> Sequence[Item] | None:
        """How to cut ranges of these lengths, the new tokens counted among the own; None if there are too many."""
        sizes = (self._tile.queries, self._tile.keys)
        if self.hopper:
            sizes = (hopper_attention.QUERIES, hopper_attention.KEYS)
        work = Work(self._tokens, self._shape["HEADS"], *sizes)
        return best_cut((own, *shared), work, _slots(self._table["own"].device), self._most)

    def store(self, qkv: Tensor, cosine: Tensor, sine: Tensor, layer: int) -> None:
        """Apply rotary positions to `qkv`, in place, and store the keys and values of a layer."""
        t = self._table
        store_tokens(qkv, cosine, sine, t, layer, self._tokens, self._shape)

    def __call__(self, qkv: Tensor, cosine: Tensor, sine: Tensor, layer: int) -> Tensor:
        """Store, and attend: (tokens, heads x dim)."""
        self.store(qkv, cosine, sine, layer)
        return self.attend(qkv, layer)

    def attend(self, qkv: Tensor, layer: int) -> Tensor:
        """Attention alone: what is stored has its keys and values."""
        t, tile, tokens, most = self._table, self._tile, self._tokens, self._most
        heads, dim = self._shape["HEADS"], self._shape["DIM"]
        out = torch.empty(most, tokens, heads * dim, dtype=qkv.dtype, device=qkv.device)
        lse = torch.empty(most, tokens, heads, dtype=torch.float32, device=qkv.device)
        scale = dim**-0.5 * _LOG2_E
        if not self._by_hopper(qkv, out, lse, layer, scale):
            _chunk_kernel[(heads, cdiv(tokens, tile.queries), most)](
                qkv, qkv, qkv, t["own"], t["shared"], t["items"], t["past"], t["fresh"], out, lse, 0, tokens, 0, 0,
                scale, layer,
                TABLE=True, LAYERS=self._layers, **self._shape, BLOCK_M=tile.queries, BLOCK_N=tile.keys,
                num_warps=tile.warps, num_stages=tile.stages,
            )  # fmt: skip
        _join_kernel[(tokens,)](
            out, lse, t["count"], tokens, 0, TABLE=True, HEADS=heads, HEADS_BLOCK=power_of_two(heads), DIM=dim
        )
        return out[0]

    def _by_hopper(self, qkv: Tensor, out: Tensor, lse: Tensor, layer: int, scale: float) -> bool:
        """Whether the kernel for Hopper did it. A Triton that cannot compile it is found out here."""
        if not (self.hopper and hopper_attention.works):
            return False
        try:
            hopper_attention.attend_table(
                qkv, self._table, out, lse, layer, self._shape["HEADS"], self._shape["KV_HEADS"], scale
            )
        except Exception as error:
            if hopper_attention.proven or isinstance(error, torch.OutOfMemoryError):
                raise
            hopper_attention.give_up(error)
            return False
        return True


def pick_chunk_tile(device: torch.device) -> ChunkTile:
    """The fastest on an H100; smaller where there is less shared memory."""
    return ChunkTile() if is_hopper(device) else ChunkTile(64, 32, 4, 2)


@cache
def _slots(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8
