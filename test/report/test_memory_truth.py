"""The memory that is reported is that of the tensors, and that of the allocator."""

from __future__ import annotations

import pytest
import torch

from stream_vl_ros.bench.gpu_shapes import SHAPES
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.segments import CacheShape
from stream_vl_ros.report.gauge import Gauge
from stream_vl_ros.report.memory_truth import MEASURE, allocator_bytes, memory, tensor_bytes

TOKEN = 36_864
"""Bytes of a token in Qwen2.5-VL-3B's cache: 36 layers, keys and values, 2 heads of 128 numbers of 2 bytes."""


def shape_3b() -> CacheShape:
    text = SHAPES["3b"]["text"]
    return CacheShape(
        layers=text["num_hidden_layers"],
        kv_heads=text["num_key_value_heads"],
        head_dim=text["hidden_size"] // text["num_attention_heads"],
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("tokens", [64, 1000, 4096])
def test_the_cache_of_the_3b_takes_what_a_token_takes(tokens):
    shape = shape_3b()
    assert shape.bytes_per_token == TOKEN
    cache = KVCache(shape, initial_capacity=tokens, max_capacity=tokens)
    piece = torch.zeros(1, shape.kv_heads, tokens, shape.head_dim, dtype=shape.dtype)
    cache.append([(piece, piece)] * shape.layers)
    assert cache.length == tokens
    assert cache.memory_bytes == tensor_bytes(cache) == TOKEN * tokens


@pytest.mark.counts
@pytest.mark.parametrize("tokens", [512, 4096])
def test_the_allocators_own_figure_is_the_same_within_its_granularity(tokens):
    gauge = Gauge(torch.device("cpu"))
    handed, reported = allocator_bytes(gauge, shape_3b(), tokens)
    assert reported == TOKEN * tokens
    allocations = 2 * 36
    assert abs(handed - reported) <= allocations * gauge.granularity


def test_a_fork_shares_memory_and_it_is_counted_once():
    shape = shape_3b()
    cache = KVCache(shape, initial_capacity=256, max_capacity=256)
    piece = torch.zeros(1, shape.kv_heads, 256, shape.head_dim, dtype=shape.dtype)
    cache.append([(piece, piece)] * shape.layers)
    fork = cache.fork()
    assert tensor_bytes(fork) == tensor_bytes(cache) == 256 * TOKEN


def test_the_section_says_so(bench):
    section = memory(bench)
    assert "exactly what the tensors take" in section.findings[0]
    for frames in bench.plan.lengths:
        reported, tensors = (section.at(MEASURE, s, frames) for s in ("reported", "tensors"))
        assert reported.values == tensors.values
