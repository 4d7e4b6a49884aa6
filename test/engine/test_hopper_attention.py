"""The chunk kernel for Hopper GPUs: that it compiles, anywhere; and there, that it is what attention is."""

from __future__ import annotations

import pytest
import torch

from stream_vl_ros.engine.fused import hopper_attention
from stream_vl_ros.engine.fused.chunk_attention import TableAttention
from stream_vl_ros.engine.fused.pieces import cut

LAYERS, HEADS, KV_HEADS, DIM, MOST = 2, 16, 2, 128, 3
HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9

gluon = pytest.mark.skipif(not hopper_attention.HAS_GLUON, reason="this Triton has no Gluon, or there is none")
hopper = pytest.mark.skipif(not HOPPER, reason="no Hopper GPU")


@gluon
@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_it_compiles_without_spills(kind):
    """For a GPU that need not be there, by the installed Triton."""
    from triton import compile as compiled
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon._runtime import GluonASTSource

    kernel = hopper_attention._chunk_kernel
    constants = {
        "LAYERS": 36, "HEADS": HEADS, "KV_HEADS": KV_HEADS, "DIM": DIM, "BLOCK_M": hopper_attention.QUERIES,
        "BLOCK_N": hopper_attention.KEYS, "STAGES": hopper_attention.STAGES,
    }  # fmt: skip
    numbers = {
        "tokens": "i32",
        "layer": "i32",
        "scale": "fp32",
        "out_lse": "*fp32",
        "qkv": f"*{kind}",
        "out": f"*{kind}",
    }
    types = {n: "constexpr" if n in constants else numbers.get(n, "*i64") for n in kernel.arg_names}
    at = {(kernel.arg_names.index(n),): value for n, value in constants.items()}
    made = compiled(GluonASTSource(kernel, types, at, {}), target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    assert made.metadata.shared <= 227 * 1024
    # Both products of a step, for each of the two groups; registers that do not fit would go to local memory.
    assert made.asm["ptx"].count("wgmma.mma_async") >= 64
    assert ".local" not in made.asm["ptx"]


@hopper
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("tokens", "fresh", "past", "shared"),
    [
        (64, 64, 0, ()), (300, 260, 50, (5000,)), (1196, 1196, 100, (9000, 333)), (2392, 2392, 0, (3000,)),
        (2392, 2300, 777, ()), (2392, 2392, 14_352, ()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("splits", [1, 3])
def test_it_is_attention(kind, tokens, fresh, past, shared, splits):
    generator = torch.Generator("cuda").manual_seed(0)

    def randn(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, device="cuda").to(kind)

    qkv = randn(tokens, (HEADS + 2 * KV_HEADS) * DIM)
    layer = 1
    own = [[randn(1, KV_HEADS, past + tokens + 70, DIM) for _ in range(2)] for _ in range(LAYERS)]
    for buffer in own[layer]:
        buffer[:, :, past + fresh :] = torch.nan  # memory that nobody wrote
    others = [[[randn(1, KV_HEADS, n + 9, DIM) for _ in range(2)] for _ in range(LAYERS)] for n in shared]

    def row(first: int, layers: list[list[torch.Tensor]]) -> list[int]:
        return [first, layers[0][0].stride(1), *(x.data_ptr() for pair in layers for x in pair)]

    items = cut([past + fresh, *shared], splits, MOST)
    assert items is not None
    rows = [row(n, layers) for n, layers in zip(shared, others, strict=True)]
    rows += [[0] * (2 + 2 * LAYERS)] * (MOST - 1 - len(rows))
    values = {
        "own": row(own[0][0].stride(0), own), "past": [past], "fresh": [fresh], "slots": [0], "count": [len(items)],
        "shared": rows, "items": [*items, *[(0, 0, 0)] * (MOST - len(items))],
    }  # fmt: skip
    table = {name: torch.tensor(value, device="cuda") for name, value in values.items()}
    attention = TableAttention(tokens, HEADS, KV_HEADS, DIM, table)
    assert attention.hopper
    taken = torch.full((MOST, tokens, HEADS * DIM), torch.nan, dtype=kind, device="cuda")
    del taken  # what the allocator hands out next
    out = attention.attend(qkv, layer)[:fresh]

    keys, values_ = (
        torch.cat(
            [
                own[layer][i][0, :, : past + fresh],
                *(o[layer][i][0, :, :n] for o, n in zip(others, shared, strict=True)),
            ],
            1,
        )
        .float()
        .repeat_interleave(HEADS // KV_HEADS, 0)
        for i in range(2)
    )
    query = qkv[:fresh, : HEADS * DIM].view(fresh, HEADS, DIM).transpose(0, 1).float()
    n, m = torch.arange(keys.shape[1], device="cuda"), torch.arange(fresh, device="cuda")
    seen = (n[None] <= past + m[:, None]) | (n[None] >= past + fresh)
    expected = torch.stack(
        [
            ((query[h] @ keys[h].T * DIM**-0.5).masked_fill(~seen, -torch.inf)).softmax(-1) @ values_[h]
            for h in range(HEADS)
        ],
        1,
    ).reshape(fresh, -1)
    assert out.isfinite().all()
    tolerance = 1e-2 if kind == torch.bfloat16 else 2e-3
    assert (out.float() - expected).norm() <= tolerance * expected.norm()
