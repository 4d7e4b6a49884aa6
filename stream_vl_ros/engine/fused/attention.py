"""Attention of a decode step, or of a question, over ranges of keys that lie anywhere in memory.

Which ranges there are, how long they are and who reads them is read from a table on the device (`plan.StepPlan`), so
one CUDA graph serves every length of the video. Two launches: the first splits the shared ranges over the whole chip
and leaves a partial result per split; the second adds each row's own tokens and merges.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_vl_ros.engine.fused.toolkit import (
    cdiv,
    gdc_launch_dependents,
    gdc_wait,
    jit,
    launch_options,
    power_of_two,
    precision,
    tl,
)

# Programs of the first launch: about one per multiprocessor of the larger GPUs.
_PROGRAMS = 128
_LOG2_E = 1.4426950408889634
# Columns of an item: range, first token, tokens.
ITEM = 3
# Values in front of the pointers: the stride between heads; of the rows' own buffers, that between slots as well.
RANGE_HEAD = 1
OWN_HEAD = 2


@dataclass(frozen=True, slots=True)
class StepShape:
    """What a captured graph is made for.

    Attributes:
        rows: answers side by side, or 1.
        tokens: new tokens of each row.
        heads, kv_heads, dim: of the model's attention.
        layers: of the model.
        widest: queries of one program at the most.
    """

    rows: int
    tokens: int
    heads: int
    kv_heads: int
    dim: int
    layers: int
    widest: int = 128

    @property
    def queries(self) -> int:
        """Query vectors per key-value head: rows x tokens x heads of a group."""
        return self.rows * self.tokens * (self.heads // self.kv_heads)

    @property
    def block(self) -> int:
        """Queries of one program."""
        return min(self.widest, max(16, power_of_two(self.queries)))

    @property
    def tiles(self) -> int:
        return cdiv(self.queries, self.block)

    @property
    def splits(self) -> int:
        """Parts that the shared tokens are cut into."""
        each = max(1, _PROGRAMS // (self.kv_heads * self.tiles))
        return max(8, min(64, 1 << (each.bit_length() - 1)))

    @property
    def ranges(self) -> int:
        """Shared ranges that there is room for."""
        return min(self.splits, 4 + 2 * self.rows)


@jit("layer")
def _shared_kernel(
    qkv, items, ranges, readers, part, part_lse, layer, scale,
    ROWS: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr,
    LAYERS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    split = tl.program_id(0)
    kv_head = tl.program_id(1)
    group: tl.constexpr = HEADS // KV_HEADS
    queries: tl.constexpr = ROWS * TOKENS * group
    width: tl.constexpr = (HEADS + 2 * KV_HEADS) * DIM
    m = tl.program_id(2) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = m < queries
    token = m // group
    head = kv_head * group + m % group
    out_at = (split * KV_HEADS + kv_head) * queries + m
    which = tl.load(items + split * 3)
    start = tl.load(items + split * 3 + 1)
    count = tl.load(items + split * 3 + 2).to(tl.int32)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    if count == 0:
        tl.store(part_lse + out_at, tl.full((BLOCK_M,), float("-inf"), tl.float32), mask=inside)
    else:
        kind = qkv.dtype.element_ty
        entry = ranges + which * (1 + 2 * LAYERS)
        stride = tl.multiple_of(tl.load(entry), 16)
        keys = tl.multiple_of(tl.load(entry + 1 + 2 * layer).to(tl.pointer_type(kind)), 16)
        values = tl.multiple_of(tl.load(entry + 2 + 2 * layer).to(tl.pointer_type(kind)), 16)
        d = tl.arange(0, DIM)
        n = tl.arange(0, BLOCK_N)
        offset = tl.multiple_of(kv_head * stride + start * DIM, 16)
        k_at = keys + offset + n[:, None] * DIM + d[None, :]
        v_at = values + offset + n[:, None] * DIM + d[None, :]
        q = tl.load(qkv + token[:, None] * width + head[:, None] * DIM + d[None, :], mask=inside[:, None], other=0.0)
        top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
        mass = tl.zeros((BLOCK_M,), tl.float32)
        acc = tl.zeros((BLOCK_M, DIM), tl.float32)
        for begin in range(0, count, BLOCK_N):
            seen = begin + n < count
            k = tl.load(k_at + begin * DIM, mask=seen[:, None], other=0.0)
            scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
            scores = tl.where(seen[None, :], scores, float("-inf"))
            higher = tl.maximum(top, tl.max(scores, axis=1))
            weights = tl.exp2(scores - higher[:, None])
            shrink = tl.exp2(top - higher)
            mass = mass * shrink + tl.sum(weights, axis=1)
            acc = acc * shrink[:, None]
            v = tl.load(v_at + begin * DIM, mask=seen[:, None], other=0.0)
            acc = tl.dot(weights.to(kind), v, acc, input_precision=PRECISION)
            top = higher
        reads = tl.load(readers + which * ROWS + token // TOKENS, mask=inside, other=0)
        lse = tl.where(reads != 0, top + tl.log2(mass), float("-inf"))
        tl.store(part_lse + out_at, lse, mask=inside)
        place = out_at.to(tl.int64)[:, None] * DIM + d[None, :]
        tl.store(part + place, acc / mass[:, None], mask=inside[:, None] & (reads != 0)[:, None])


@jit("layer")
def _own_kernel(
    qkv, own, slots, past, fresh, part, part_lse, out, layer, scale,
    TOKENS: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr, QUERIES: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK_N: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    index = tl.program_id(0)
    head = tl.program_id(1)
    group: tl.constexpr = HEADS // KV_HEADS
    width: tl.constexpr = (HEADS + 2 * KV_HEADS) * DIM
    kind = qkv.dtype.element_ty
    row = index // TOKENS
    token = index % TOKENS
    kv_head = head // group
    d = tl.arange(0, DIM)
    place = out + index * (HEADS * DIM) + head * DIM + d
    if token >= tl.load(fresh + row):
        tl.store(place, tl.zeros((DIM,), tl.float32).to(kind))
    else:
        q = tl.load(qkv + index * width + head * DIM + d).to(tl.float32) * scale
        total = (tl.load(past + row) + token + 1).to(tl.int32)
        offset = tl.load(slots + row) * tl.load(own) + kv_head * tl.load(own + 1)
        offset = tl.multiple_of(offset, 16)
        keys = tl.multiple_of(tl.load(own + 2 + 2 * layer).to(tl.pointer_type(kind)), 16) + offset
        values = tl.multiple_of(tl.load(own + 3 + 2 * layer).to(tl.pointer_type(kind)), 16) + offset
        # Partial results over the shared tokens, all splits at once.
        split = tl.arange(0, SPLITS)
        at = (split * KV_HEADS + kv_head) * QUERIES + index * group + head % group
        lse = tl.load(part_lse + at)
        theirs = tl.load(
            part + at.to(tl.int64)[:, None] * DIM + d[None, :], mask=(lse > float("-inf"))[:, None], other=0.0
        )
        n = tl.arange(0, BLOCK_N)
        k = tl.load(keys + n[:, None] * DIM + d[None, :], mask=(n < total)[:, None], other=0.0).to(tl.float32)
        scores = tl.where(n < total, tl.sum(k * q[None, :], axis=1), float("-inf"))
        top = tl.maximum(tl.max(lse, axis=0), tl.max(scores, axis=0))
        part_weights = tl.exp2(lse - top)
        weights = tl.exp2(scores - top)
        v = tl.load(values + n[:, None] * DIM + d[None, :], mask=(n < total)[:, None], other=0.0).to(tl.float32)
        mass = tl.sum(part_weights, axis=0) + tl.sum(weights, axis=0)
        acc = tl.sum(part_weights[:, None] * theirs, axis=0) + tl.sum(weights[:, None] * v, axis=0)
        for begin in range(BLOCK_N, total, BLOCK_N):
            m = begin + n
            k = tl.load(keys + m[:, None] * DIM + d[None, :], mask=(m < total)[:, None], other=0.0).to(tl.float32)
            v = tl.load(values + m[:, None] * DIM + d[None, :], mask=(m < total)[:, None], other=0.0).to(tl.float32)
            scores = tl.where(m < total, tl.sum(k * q[None, :], axis=1), float("-inf"))
            higher = tl.maximum(top, tl.max(scores, axis=0))
            weights = tl.exp2(scores - higher)
            mass = mass * tl.exp2(top - higher) + tl.sum(weights, axis=0)
            acc = acc * tl.exp2(top - higher) + tl.sum(weights[:, None] * v, axis=0)
            top = higher
        tl.store(place, (acc / mass).to(kind))


@jit("layer", "tokens")
def _store_kernel(
    qkv, cosine, sine, own, slots, past, fresh, layer, tokens,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr,
    HEADS_BLOCK: tl.constexpr, KV_BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    index = tl.program_id(0)
    width: tl.constexpr = (HEADS + 2 * KV_HEADS) * DIM
    half: tl.constexpr = DIM // 2
    kind = qkv.dtype.element_ty
    row = index // tokens
    token = index % tokens
    at = tl.arange(0, half)[None, :]
    c = tl.load(cosine + index * DIM + at).to(tl.float32)
    s = tl.load(sine + index * DIM + at).to(tl.float32)
    head = tl.arange(0, HEADS_BLOCK)[:, None]
    low = qkv + index * width + head * DIM + at
    a = tl.load(low, mask=head < HEADS, other=0.0).to(tl.float32)
    b = tl.load(low + half, mask=head < HEADS, other=0.0).to(tl.float32)
    tl.store(low, (a * c - b * s).to(kind), mask=head < HEADS)
    tl.store(low + half, (b * c + a * s).to(kind), mask=head < HEADS)
    kv = tl.arange(0, KV_BLOCK)[:, None]
    real = (kv < KV_HEADS) & (token < tl.load(fresh + row))
    low = qkv + index * width + (HEADS + kv) * DIM + at
    a = tl.load(low, mask=real, other=0.0).to(tl.float32)
    b = tl.load(low + half, mask=real, other=0.0).to(tl.float32)
    offset = tl.load(slots + row) * tl.load(own) + (tl.load(past + row) + token) * DIM
    place = offset + kv * tl.load(own + 1) + at
    keys = tl.load(own + 2 + 2 * layer).to(tl.pointer_type(kind))
    values = tl.load(own + 3 + 2 * layer).to(tl.pointer_type(kind))
    tl.store(keys + place, (a * c - b * s).to(kind), mask=real)
    tl.store(keys + place + half, (b * c + a * s).to(kind), mask=real)
    low = low + KV_HEADS * DIM
    tl.store(values + place, tl.load(low, mask=real, other=0.0), mask=real)
    tl.store(values + place + half, tl.load(low + half, mask=real, other=0.0), mask=real)


def store_tokens(
    qkv: Tensor,
    cosine: Tensor,
    sine: Tensor,
    table: dict[str, Tensor],
    layer: int,
    tokens: int,
    heads: dict[str, int],
    early: bool = False,
) -> None:
    """Apply rotary positions in place, and store keys and values where the table says.

    `heads` holds the kernel's HEADS, KV_HEADS and DIM; each row has `tokens` tokens, those that are padding left out.
    """
    _store_kernel[(qkv.shape[0],)](
        qkv, cosine, sine, table["own"], table["slots"], table["past"], table["fresh"], layer, tokens,
        **heads, HEADS_BLOCK=power_of_two(heads["HEADS"]), KV_BLOCK=power_of_two(heads["KV_HEADS"]),
        EARLY=early, **launch_options(early),
    )  # fmt: skip


class StepAttention:
    """The attention of one graph: its workspace, and the views of its table.

    The views are int64 on the device: `items` (splits, 3), `ranges` (ranges, 1 + 2 layers), `readers` (ranges, rows),
    `own` (2 + 2 layers), `slots`, `past` and `fresh` (rows,); `plan.StepPlan` writes them.
    """

    def __init__(
        self, shape: StepShape, table: dict[str, Tensor], scale: float, workspace: Tensor, early: bool = False
    ) -> None:
        """`workspace` is float32 of at least `workspace_size(shape)` values; `early` as of `linear.linear`."""
        self._early = early
        self._shape, self._table, self._scale = shape, table, scale * _LOG2_E
        entries = shape.splits * shape.kv_heads * shape.queries
        self._part = workspace[: entries * shape.dim]
        self._lse = workspace[entries * shape.dim : entries * (shape.dim + 1)]

    def __call__(self, qkv: Tensor, cosine: Tensor, sine: Tensor, layer: int) -> Tensor:
        """Store the new keys and values of a layer, and attend.

        Args:
            qkv: (rows x tokens, all heads of queries, keys and values side by side), changed in place.
            cosine, sine: (rows x tokens, dim).

        Returns:
            (rows x tokens, heads x dim); zeros where a row has fewer new tokens.
        """
        s, t = self._shape, self._table
        count = s.rows * s.tokens
        heads = {"HEADS": s.heads, "KV_HEADS": s.kv_heads, "DIM": s.dim}
        early = {"EARLY": self._early, **launch_options(self._early)}
        store_tokens(qkv, cosine, sine, t, layer, s.tokens, heads, self._early)
        single = qkv.dtype == torch.float32
        _shared_kernel[(s.splits, s.kv_heads, s.tiles)](
            qkv, t["items"], t["ranges"], t["readers"], self._part, self._lse, layer, self._scale,
            ROWS=s.rows, TOKENS=s.tokens, **heads, LAYERS=s.layers, BLOCK_M=s.block,
            BLOCK_N=32 if single else 64, PRECISION=precision(qkv.dtype),
            num_warps=8 if s.block >= 128 else 4, num_stages=3 if s.widest >= 128 else 2, **early,
        )  # fmt: skip
        out = torch.empty(count, s.heads * s.dim, dtype=qkv.dtype, device=qkv.device)
        _own_kernel[(count, s.heads)](
            qkv, t["own"], t["slots"], t["past"], t["fresh"], self._part, self._lse, out, layer, self._scale,
            TOKENS=s.tokens, **heads, QUERIES=s.queries, SPLITS=s.splits, BLOCK_N=32,
            num_warps=4, **early,
        )  # fmt: skip
        return out


def workspace_size(shape: StepShape) -> int:
    """float32 values that the partial results take."""
    return shape.splits * shape.kv_heads * shape.queries * (shape.dim + 1)
