"""Triton kernels against their definitions: on CUDA, and in Triton's interpreter where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stream_vl_ros.engine.attention import KeyValueParts, SharedRange, attend, math_kernel
from stream_vl_ros.engine.batch_cache import StepRows, plan_reads
from stream_vl_ros.engine.fused import elementwise, hopper_attention, linear, toolkit
from stream_vl_ros.engine.fused.attention import StepAttention, StepShape, workspace_size
from stream_vl_ros.engine.fused.chunk_attention import ChunkTile, TableAttention, attend_chunk
from stream_vl_ros.engine.fused.pieces import cut
from stream_vl_ros.engine.fused.plan import StepPlan
from stream_vl_ros.engine.segments import Segment, addresses

HAS_CUDA = torch.cuda.is_available()
DEVICE = "cuda" if HAS_CUDA else "cpu"
RUNS_KERNELS = toolkit.HAS_TRITON and (HAS_CUDA or toolkit.INTERPRETED)
kernels = pytest.mark.skipif(not RUNS_KERNELS, reason="no CUDA device, and not in Triton's interpreter")
# dtype, and the largest error in relation to the definition in float32
KINDS = [pytest.param(torch.float32, 2e-6, id="f32")]
if HAS_CUDA:  # the interpreter knows no bfloat16 on the CPU
    KINDS += [pytest.param(torch.bfloat16, 1e-2, id="bf16"), pytest.param(torch.float16, 2e-3, id="f16")]
# Query heads of a key-value head; the interpreter is slow.
GROUPS = [1, 7, 8] if HAS_CUDA else [7]


@pytest.mark.skipif(HAS_CUDA or toolkit.INTERPRETED, reason="runs the others in the interpreter")
@pytest.mark.skipif(not toolkit.HAS_TRITON, reason="Triton is not installed")
def test_in_the_interpreter():
    """All of this file's other tests, as a process of their own: Triton looks at the variable when it is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    run = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]


def randn(*size: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    assert a.isfinite().all()
    assert (a.double() - b.double()).norm() <= tolerance * b.double().norm() + 1e-12


@pytest.fixture
def definition(monkeypatch):
    """Call a function with all kernels switched off, in float32."""

    def call(function, *args, **kwargs):
        def widened(x):
            if isinstance(x, tuple):
                return tuple(widened(y) for y in x)
            return x.float() if isinstance(x, Tensor) and x.is_floating_point() else x

        with monkeypatch.context() as patch:
            for module in (elementwise, linear):
                patch.setattr(module, "uses_kernels", lambda x: False)
            return function(*(widened(a) for a in args), **{k: widened(v) for k, v in kwargs.items()})

    return call


@kernels
@pytest.mark.parametrize(("dtype", "tolerance"), KINDS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 128), (7, 200), (3, 2048)])
def test_add_rms_norm(definition, dtype, tolerance, rows, columns):
    residual, x = (randn(rows, columns, seed=s, dtype=dtype) * 3 for s in (0, 1))
    weight = randn(columns, seed=2, dtype=dtype)
    summed = residual.float().clone() + x.float()
    alone = definition(elementwise.add_rms_norm, residual, None, weight, 1e-6)
    close(elementwise.add_rms_norm(residual, None, weight, 1e-6), alone, tolerance)
    expected = definition(elementwise.add_rms_norm, summed, None, weight, 1e-6)
    close(elementwise.add_rms_norm(residual, x, weight, 1e-6), expected, tolerance)
    close(residual, summed, tolerance)


@kernels
@pytest.mark.parametrize(("dtype", "tolerance"), KINDS)
@pytest.mark.parametrize(("heads", "dim", "rest"), [(3, 32, 64), (18, 128, 256), (4, 80, 160)])
def test_rotate(definition, dtype, tolerance, heads, dim, rest):
    qkv = randn(5, heads * dim + rest, seed=0, dtype=dtype)
    angles = randn(5, dim // 2, seed=1).repeat(1, 2)
    expected = qkv.float().clone()
    definition(elementwise.rotate, expected, angles.cos(), angles.sin(), heads, dim)
    elementwise.rotate(qkv, angles.cos(), angles.sin(), heads, dim)
    close(qkv, expected, tolerance)


@kernels
@pytest.mark.parametrize(("dtype", "tolerance"), KINDS)
def test_silu_mul(definition, dtype, tolerance):
    x = randn(3, 2 * 1500, seed=0, dtype=dtype) * 4
    close(elementwise.silu_mul(x), definition(elementwise.silu_mul, x), tolerance)


@kernels
@pytest.mark.parametrize(("dtype", "tolerance"), KINDS)
@pytest.mark.parametrize(("depth", "columns"), [(256, 96), (200, 50), (3000, 9000)][: 3 if HAS_CUDA else 2])
@pytest.mark.parametrize("kind", ["plain", "bias", "norm", "gated", "residual"])
def test_linear(definition, dtype, tolerance, depth, columns, kind):
    x = randn(1, depth, seed=0, dtype=dtype)
    weight = randn(columns, depth, seed=1, dtype=dtype) / depth**0.5
    options = {
        "plain": {},
        "bias": {"bias": randn(columns, seed=2, dtype=dtype)},
        "norm": {"norm": (randn(depth, seed=3, dtype=dtype), 1e-6)},
        "gated": {"gated": True, "norm": (randn(depth, seed=3, dtype=dtype), 1e-6)},
        "residual": {"residual": randn(1, columns, seed=4, dtype=dtype)},
    }[kind]
    copies = {k: v.float().clone() if isinstance(v, Tensor) else v for k, v in options.items()}
    expected = definition(linear.linear, x, weight, **copies)
    out = linear.linear(x, weight, **options)
    assert out.dtype == dtype
    close(out, expected, tolerance)


LAYERS, KV_HEADS, DIM = 2, 2, 16


def segment(length: int, seed: int, dtype: torch.dtype) -> Segment:
    """Views of larger buffers, as in a cache."""
    pairs = [
        tuple(randn(1, KV_HEADS, length + 7, DIM, seed=seed + 10 * i + j, dtype=dtype)[:, :, :length] for j in (0, 1))
        for i in range(LAYERS)
    ]
    return Segment(tuple(pairs), length)


@kernels
@pytest.mark.parametrize(("dtype", "tolerance"), KINDS)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("case", ["decode", "question", "first", "batch", "many"])
def test_step_attention(dtype, tolerance, group, case):
    """A padded step over shared ranges and own tokens, against attention over each row's concatenation."""
    long, tip, other = (segment(n, 100 * i, dtype) for i, n in enumerate((700, 90, 65)))
    rows, tokens, fresh, past, segments, slots = {
        "decode": (1, 1, [1], [40], [(long,)], [0]),
        "question": (1, 16, [11], [3], [(long, tip)], [0]),
        "first": (1, 16, [16], [0], [()], [0]),
        "batch": (4, 1, [1, 1, 1], [2, 37, 0], [(long,), (long, tip), (other,)], [2, 0, 1]),
        "many": (16, 1, [1] * 16, list(range(16)), [(long,)] * 16, list(range(16))),
    }[case]
    shape = StepShape(rows, tokens, group * KV_HEADS, KV_HEADS, DIM, LAYERS, 32 if dtype == torch.float32 else 128)
    own = [tuple(randn(16, KV_HEADS, 64, DIM, seed=7 + i + j, dtype=dtype) for j in (0, 1)) for i in range(LAYERS)]
    plan = StepPlan(shape, torch.device(DEVICE))
    where = StepRows(plan_reads(segments), own, slots, past, addresses(own))
    assert plan.can_hold(where)
    plan.write([[5] * n for n in fresh], [0] * len(fresh), where)
    workspace = torch.full((workspace_size(shape),), torch.nan, device=DEVICE)
    attention = StepAttention(shape, plan.views, DIM**-0.5, workspace)
    layer = 1
    qkv = randn(rows * tokens, (group + 2) * KV_HEADS * DIM, seed=1, dtype=dtype)
    angles = randn(rows * tokens, DIM // 2, seed=2).repeat(1, 2)
    cosine, sine = angles.cos(), angles.sin()
    given = qkv.float().clone()
    out = attention(qkv, cosine, sine, layer).view(rows, tokens, group * KV_HEADS, DIM)
    low, high = given[:, : (group + 1) * KV_HEADS * DIM].view(rows * tokens, -1, DIM).chunk(2, dim=-1)
    turned = torch.cat((-high, low), dim=-1)
    rotated = torch.cat((low, high), dim=-1) * cosine[:, None] + turned * sine[:, None]
    values = given[:, (group + 1) * KV_HEADS * DIM :].view(rows, tokens, KV_HEADS, DIM).transpose(1, 2)
    query, key = rotated.view(rows, tokens, -1, DIM).transpose(1, 2).split((group * KV_HEADS, KV_HEADS), dim=1)
    for row, (count, before, slot) in enumerate(zip(fresh, past, slots, strict=True)):
        kept = [x[slot, :, before : before + count] for x in own[layer]]
        close(kept[0], key[row, :, :count], tolerance)
        close(kept[1], values[row, :, :count], tolerance)
        parts = KeyValueParts(
            tuple(SharedRange(*(t.float() for t in s.layers[layer])) for s in segments[row]),
            tuple(x[slot : slot + 1, :, : before + count].float() for x in own[layer]),
            before,
        )
        expected = attend(query[row : row + 1, :, :count], parts, DIM**-0.5, math_kernel)[0].transpose(0, 1)
        close(out[row, :count], expected, tolerance * 2)
        assert (out[row, count:] == 0).all()


@kernels
@pytest.mark.parametrize("dtype", [p.values[0] for p in KINDS if not HAS_CUDA or p.values[0] != torch.float32])
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("past", "tokens"), [(0, 64), (45, 100), (300, 130), (512, 64)])
@pytest.mark.parametrize("splits", [1, 3])
def test_chunk_attention(dtype, group, past, tokens, splits):
    heads, capacity = group * KV_HEADS, past + tokens + 50
    own = [randn(1, KV_HEADS, capacity, DIM, seed=s, dtype=dtype) for s in (0, 1)]
    for x in own:
        x[:, :, past + tokens :] = torch.nan  # memory that nobody wrote
    views = tuple(x[:, :, : past + tokens] for x in own)
    qkv = randn(tokens, (heads + 2 * KV_HEADS) * DIM, seed=2, dtype=dtype)
    query = qkv[:, : heads * DIM].view(1, tokens, heads, DIM).transpose(1, 2)
    wide = KeyValueParts((), tuple(x.float() for x in views), past)
    expected = attend(query.float(), wide, DIM**-0.5, math_kernel)[0].transpose(0, 1).reshape(tokens, -1)
    tiles = [ChunkTile(64, 32, 4, 2)]
    if HAS_CUDA and torch.cuda.get_device_capability() >= (9, 0):
        tiles.append(ChunkTile())
    for tile in tiles:
        out = attend_chunk(qkv, KeyValueParts((), views, past), heads, DIM**-0.5, tile, splits)
        close(out, expected, 1e-2 if dtype != torch.float32 else 2e-6)


def table_of(layers, past, fresh, shared, most, items):
    """The table of a graph that reads visual tokens, as `ReadGraph` fills it in."""
    width = 2 * len(layers)
    own = [*layers[0][0].stride()[:2], *addresses(layers)]
    rows = [[s.length, s.layers[0][0].stride(1), *s.addresses] for s in shared]
    rows += [[0] * (2 + width)] * (most - 1 - len(rows))
    values = {
        "own": own, "past": [past], "fresh": [fresh], "slots": [0], "count": [len(items)], "shared": rows,
        "items": [*items, *[[0, 0, 0]] * (most - len(items))],
    }  # fmt: skip
    return {name: torch.tensor(value, dtype=torch.int64, device=DEVICE) for name, value in values.items()}


@kernels
def test_a_triton_that_cannot_compile_the_kernel_for_hopper(monkeypatch, caplog):
    own = [[randn(1, KV_HEADS, 160, DIM, seed=i + 2 * j, dtype=torch.float16) for i in (0, 1)] for j in (0, 1)]
    qkv = randn(96, 4 * KV_HEADS * DIM, seed=9, dtype=torch.float16)
    attention = TableAttention(96, 2 * KV_HEADS, KV_HEADS, DIM, table_of(own, 64, 96, (), 3, [(0, 0, 1)]))
    expected = attention.attend(qkv, 1)

    def fails(*args):
        raise TypeError("another release\nof Triton")

    monkeypatch.setattr(hopper_attention, "works", True)
    monkeypatch.setattr(hopper_attention, "attend_table", fails)
    attention.hopper = True
    for _ in range(2):
        assert torch.equal(attention.attend(qkv, 1), expected)
    assert not hopper_attention.works
    assert [r.getMessage().endswith("TypeError: another release") for r in caplog.records] == [True]


@kernels
@pytest.mark.parametrize("dtype", [p.values[0] for p in KINDS if not HAS_CUDA or p.values[0] != torch.float32])
@pytest.mark.parametrize("group", GROUPS if HAS_CUDA else [3])
@pytest.mark.parametrize(
    ("past", "fresh", "shared"),
    [(0, 70, ()), (150, 90, ()), (0, 64, (150,)), (70, 65, (131, 40)), (33, 96, (1,))],
)
def test_reading_from_a_table(dtype, group, past, fresh, shared):
    """Own tokens and shared ones, in buffers with room behind them, some queries that are padding."""
    heads, tokens, layer = group * KV_HEADS, 96, 1

    def buffers(length, room, seed):
        made = [randn(2, 1, KV_HEADS, length + room, DIM, seed=seed + i, dtype=dtype).unbind() for i in (0, 1)]
        for x in (x for pair in made for x in pair):
            x[:, :, length:] = torch.nan  # memory that nobody wrote
        return made

    own = buffers(past, fresh + 7, 10)
    segments = [
        Segment(tuple((k[:, :, :n], v[:, :, :n]) for k, v in buffers(n, 5, 20 + 2 * i)), n)
        for i, n in enumerate(shared)
    ]
    qkv = randn(tokens, (heads + 2 * KV_HEADS) * DIM, seed=2, dtype=dtype)
    angle = randn(tokens, DIM // 2, seed=3).repeat(1, 2)
    cosine, sine = angle.cos().to(dtype), angle.sin().to(dtype)
    by_head = qkv.view(tokens, -1, DIM)[:fresh].float().transpose(0, 1)[None]
    first, second = by_head[:, : heads + KV_HEADS].chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    rotated = torch.cat((first, second), dim=-1) * cosine[:fresh].float() + turned * sine[:fresh].float()
    query, key, value = rotated[:, :heads], rotated[:, heads:], by_head[:, heads + KV_HEADS :]
    before = [x[:, :, :past].float() for x in own[layer]]
    whole = (torch.cat((before[0], key), dim=2), torch.cat((before[1], value), dim=2))
    ranges = tuple(SharedRange(*(t.float() for t in s.layers[layer])) for s in segments)
    expected = attend(query, KeyValueParts(ranges, whole, past), DIM**-0.5, math_kernel)[0].transpose(0, 1)
    most = 4
    for splits in (1, 3) if HAS_CUDA or shared else (3,):
        items = cut([past + fresh, *shared], splits, most)
        table = table_of(own, past, fresh, segments, most, items)
        attention = TableAttention(tokens, heads, KV_HEADS, DIM, table, ChunkTile(64, 32, 4, 2))
        out = attention(qkv.clone(), cosine, sine, layer)
        close(out[:fresh], expected.reshape(fresh, -1), 2e-2 if dtype != torch.float32 else 2e-6)
        for buffer, new in zip(own[layer], (key, value), strict=True):
            close(buffer[:, :, past : past + fresh], new, 1e-2 if dtype != torch.float32 else 2e-6)
            assert buffer[:, :, past + fresh :].isnan().all(), "padding must not be stored"
