"""Attention over parts, against plain softmax over their concatenation."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stream_vl_ros.engine.attention import (
    ATTENTION_NAME,
    KeyValueParts,
    SharedRange,
    attend,
    cpu_kernel,
    cuda_efficient_kernel,
    cuda_flash_kernel,
    math_kernel,
    merge,
    pick_kernel,
    register,
)

HAS_CUDA = torch.cuda.is_available()
needs_cuda = [pytest.mark.gpu, pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")]

# kernel, device, dtype, largest error against the definition in float64
KERNELS = [
    pytest.param(math_kernel, "cpu", torch.float32, 2e-6, id="math"),
    pytest.param(math_kernel, "cpu", torch.bfloat16, 2e-2, id="math-bf16"),
    pytest.param(cpu_kernel, "cpu", torch.float32, 2e-6, id="cpu"),
    pytest.param(cpu_kernel, "cpu", torch.bfloat16, 2e-2, id="cpu-bf16"),
    pytest.param(math_kernel, "cuda", torch.float32, 1e-3, id="math-cuda", marks=needs_cuda),
    pytest.param(cuda_efficient_kernel, "cuda", torch.float32, 1e-3, id="efficient", marks=needs_cuda),
    pytest.param(cuda_efficient_kernel, "cuda", torch.bfloat16, 4e-2, id="efficient-bf16", marks=needs_cuda),
    pytest.param(cuda_flash_kernel, "cuda", torch.bfloat16, 4e-2, id="flash-bf16", marks=needs_cuda),
    pytest.param(cuda_flash_kernel, "cuda", torch.float16, 5e-3, id="flash-f16", marks=needs_cuda),
]


def randn(*size: int, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """The textbook in float64; heads are repeated, `visible` is a mask over query and key tokens."""
    group = query.shape[1] // key.shape[1]
    key, value = (x.double().repeat_interleave(group, dim=1) for x in (key, value))
    scores = (query.double() @ key.transpose(-1, -2) * scale).masked_fill(~visible, -math.inf)
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def make_parts(
    rows: int, kv_heads: int, dim: int, shared: list[int], past: int, tokens: int, device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> KeyValueParts:  # fmt: skip
    def pair(rows: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
        return tuple(randn(rows, kv_heads, length, dim, seed=seed + i, device=device, dtype=dtype) for i in (0, 1))

    # Like in the cache: views of larger buffers.
    own = tuple(x[:, :, : past + tokens] for x in pair(rows, past + tokens + 5, 50))
    return KeyValueParts(tuple(SharedRange(*pair(1, n, 100 + 2 * i)) for i, n in enumerate(shared)), own, past)


def expected(query: Tensor, parts: KeyValueParts, scale: float) -> Tensor:
    rows, _, tokens, _ = query.shape
    whole = [
        torch.cat([*((s.key, s.value)[i].expand(rows, -1, -1, -1) for s in parts.shared), parts.own[i]], dim=2)
        for i in (0, 1)
    ]
    length = whole[0].shape[2]
    before = length - tokens
    visible = torch.arange(length) <= before + torch.arange(tokens)[:, None]
    return softmax_attention(query, *whole, scale, visible.to(query.device))[0]


# query tokens, key tokens, causal; the engine is causal over new tokens only
CALLS = [(1, 1, False), (2, 2, False), (33, 33, False), (1, 100, False), (7, 100, False)]
CALLS += [(1, 1, True), (2, 2, True), (33, 33, True)]


@pytest.mark.parametrize(("tokens", "keys", "causal"), CALLS)
@pytest.mark.parametrize(("kernel", "device", "dtype", "tolerance"), KERNELS)
def test_kernels(kernel, device, dtype, tolerance, tokens, keys, causal):
    query, key, value = (
        randn(2, 4, n, 32, seed=i, device=device, dtype=dtype) for i, n in enumerate((tokens, keys, keys))
    )
    out, lse = kernel(query, key, value, 0.3, causal)
    visible = torch.ones(tokens, keys, dtype=torch.bool, device=device)
    reference, reference_lse = softmax_attention(query, key, value, 0.3, visible.tril() if causal else visible)
    assert (out.shape, out.dtype, lse.shape, lse.dtype) == (query.shape, dtype, query.shape[:3], torch.float32)
    assert (out.double() - reference).abs().max() < tolerance
    assert (lse.double() - reference_lse).abs().max() < (1e-5 if dtype == torch.float32 and device == "cpu" else 2e-3)


def test_a_kernel_is_picked_for_every_tensor():
    assert pick_kernel(randn(1, 1, 1, 8, seed=0)) is cpu_kernel
    assert pick_kernel(torch.empty(1, 1, 1, 8, device="meta")) is math_kernel


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")
def test_kernels_picked_on_cuda():
    assert pick_kernel(torch.empty(1, 1, 1, 64, device="cuda")) is cuda_efficient_kernel
    assert pick_kernel(torch.empty(1, 1, 1, 64, device="cuda", dtype=torch.bfloat16)) is cuda_flash_kernel


# rows, past own tokens, lengths of the shared segments
LAYOUTS = [(1, 0, []), (1, 1, [40]), (3, 0, [40]), (1, 17, []), (3, 1, []), (3, 17, [3, 1, 65]), (1, 17, [3, 1, 65])]


@pytest.mark.parametrize("tokens", [1, 2, 33])
@pytest.mark.parametrize("group", [1, 2, 4, 8])
@pytest.mark.parametrize(("kernel", "device", "dtype", "tolerance"), KERNELS)
def test_parts(kernel, device, dtype, tolerance, group, tokens):
    for rows, past, shared in LAYOUTS:
        parts = make_parts(rows, 2, 16, shared, past, tokens, device, dtype)
        # Like transformers hands it over: heads and tokens swapped, not contiguous.
        query = randn(rows, tokens, 2 * group, 16, seed=9, device=device, dtype=dtype).transpose(1, 2)
        out = attend(query, parts, 0.25, kernel)
        assert (out.shape, out.dtype) == (query.shape, dtype)
        assert (out.double() - expected(query, parts, 0.25)).abs().max() < tolerance, (rows, past, shared)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    shared=st.lists(st.integers(1, 70), max_size=4),
    past=st.integers(0, 40),
    tokens=st.integers(1, 40),
    scale=st.sampled_from([0.05, 0.25, 1.0]),
)
def test_parts_of_any_shape(rows, kv_heads, group, shared, past, tokens, scale):
    parts = make_parts(rows, kv_heads, 8, shared, past, tokens)
    query = randn(rows, kv_heads * group, tokens, 8, seed=9)
    assert (attend(query, parts, scale).double() - expected(query, parts, scale)).abs().max() < 5e-6


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize(("kernel", "device", "dtype", "tolerance"), KERNELS)
def test_rows_of_a_batch(kernel, device, dtype, tolerance, group):
    """Each row reads its own choice of the shared ranges, and has its own number of tokens."""
    readers = [None, [0, 2], [1], [2, 1, 3]]
    lengths = [1, 7, 12, 3]
    parts = make_parts(4, 2, 16, [40, 3, 17, 1], 11, 1, device, dtype)
    shared = tuple(
        SharedRange(s.key, s.value, None if rows is None else torch.tensor(rows, device=device))
        for s, rows in zip(parts.shared, readers, strict=True)
    )
    query = randn(4, 1, 2 * group, 16, seed=9, device=device, dtype=dtype).transpose(1, 2)
    batch = KeyValueParts(shared, parts.own, 0, torch.tensor(lengths, device=device))
    out = attend(query, batch, 0.25, kernel)
    assert (out.shape, out.dtype) == (query.shape, dtype)
    for row, length in enumerate(lengths):
        alone = KeyValueParts(
            tuple(s for s, rows in zip(parts.shared, readers, strict=True) if rows is None or row in rows),
            (parts.own[0][row : row + 1, :, :length], parts.own[1][row : row + 1, :, :length]),
            length - 1,
        )
        assert (out[row : row + 1].double() - expected(query[row : row + 1], alone, 0.25)).abs().max() < tolerance


@pytest.mark.parametrize("group", [1, 4])
@pytest.mark.parametrize(("kernel", "device", "dtype", "tolerance"), KERNELS)
def test_a_mask_in_place_of_the_causal_order(kernel, device, dtype, tolerance, group):
    rows, kv_heads, dim, past, tokens = 3, 2, 16, 9, 7
    query = randn(rows, kv_heads * group, tokens, dim, seed=1, device=device, dtype=dtype)
    shared = [randn(1, kv_heads, past, dim, seed=s, device=device, dtype=dtype) for s in (2, 3)]
    own = [randn(rows, kv_heads, tokens, dim, seed=s, device=device, dtype=dtype) for s in (4, 5)]
    hidden = randn(rows, tokens, tokens, seed=6, device=device) > 0.5
    hidden[:, range(tokens), range(tokens)] = False
    parts = KeyValueParts((SharedRange(*shared),), (own[0], own[1]), 0, hidden=hidden)
    key, value = (torch.cat((s.expand(rows, -1, -1, -1), o), dim=2) for s, o in zip(shared, own, strict=True))
    visible = torch.cat((torch.ones(rows, tokens, past, dtype=torch.bool, device=device), ~hidden), dim=2)[:, None]
    expected, _ = softmax_attention(query, key, value, 0.25, visible)
    assert (attend(query, parts, 0.25, kernel).double() - expected).abs().max() < tolerance


def test_the_future_is_not_seen():
    parts = make_parts(1, 2, 8, [5], past=3, tokens=4)
    query = randn(1, 4, 4, 8, seed=9)
    before = attend(query, parts, 0.3)
    for x in parts.own:
        x[:, :, -1] = 1e4
    after = attend(query, parts, 0.3)
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.equal(before[:, :, 3], after[:, :, 3])


def test_rows_do_not_see_each_other():
    parts = make_parts(3, 2, 8, [5], past=2, tokens=4)
    query = randn(3, 4, 4, 8, seed=9)
    before = attend(query, parts, 0.3)
    parts.own[1][1] += 1
    after = attend(query, parts, 0.3)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_one_part_is_itself():
    out = randn(1, 2, 3, 8, seed=0)
    assert merge([(out, randn(1, 2, 3, seed=1))], torch.float32) is out


def test_parts_are_weighed_by_their_log_sum_exp():
    ones = torch.ones(1, 1, 1, 2)
    lse = torch.tensor([[[0.0]]])
    out = merge([(ones, lse + math.log(3)), (ones * 5, lse)], torch.float32)
    assert torch.allclose(out, ones * 2)
    # A part that is nothing in comparison, and one of which nothing is visible.
    assert torch.equal(merge([(ones, lse + 200), (ones * 5, lse)], torch.float32), ones)
    assert torch.equal(merge([(ones, lse), (ones * 5, lse - math.inf)], torch.float32), ones)


@pytest.mark.parametrize("kernel", [math_kernel, cpu_kernel])
@pytest.mark.parametrize("tokens", [1, 6])
def test_large_scores_do_not_overflow(kernel, tokens):
    parts = make_parts(2, 2, 16, [20, 9], past=4, tokens=tokens)
    query = randn(2, 4, tokens, 16, seed=9) * 1000
    out = attend(query, parts, 1.0, kernel)
    reference = expected(query, parts, 1.0)
    assert out.isfinite().all()
    assert expected(query, parts, 1.0).abs().max() > 0.1
    # Scores of thousands, of which float32 holds three or four digits behind the point.
    assert (out.double() - reference).abs().max() < 2e-2


def test_half_precision_is_merged_in_float32():
    # 300 parts of one token each: joined in bfloat16 the sum of the weights alone would be off by percents.
    pairs = [(randn(1, 1, 1, 8, seed=i).bfloat16(), torch.zeros(1, 1, 1)) for i in range(300)]
    out = merge(pairs, torch.bfloat16)
    exact = torch.stack([o.double() for o, _ in pairs]).mean(0)
    assert (out.double() - exact).abs().max() < 1e-3


def text_prompt(model) -> Tensor:
    return torch.arange(3, 40)[None] % model.config.text_config.vocab_size


def as_sdpa(model):
    twin = copy.deepcopy(model)
    twin.set_attn_implementation("sdpa")
    return twin


def test_registered_for_native_use(loaded):
    register()
    model, twin = loaded.native, as_sdpa(loaded.native)
    assert model.config.text_config._attn_implementation == ATTENTION_NAME
    assert twin.config.text_config._attn_implementation == "sdpa"
    ids = text_prompt(model)
    kwargs = {"max_new_tokens": 12, "do_sample": False, "min_new_tokens": 12}
    ours, theirs = model.generate(ids, **kwargs), twin.generate(ids, **kwargs)
    assert ours.shape == (1, ids.shape[1] + 12)
    assert torch.equal(ours, theirs)
    assert torch.equal(model(ids).logits, twin(ids).logits)


def test_registered_for_native_batches_with_padding(loaded):
    model, twin = loaded.native, as_sdpa(loaded.native)
    ids = text_prompt(model).repeat(2, 1)
    mask = torch.ones_like(ids)
    mask[0, :9] = 0
    kwargs = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "min_new_tokens": 8}
    assert torch.equal(model.generate(ids, **kwargs), twin.generate(ids, **kwargs))
