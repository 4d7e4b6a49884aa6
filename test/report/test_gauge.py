"""Memory of the process: what is held, the peak, a cap, and the allocator's own count."""

from __future__ import annotations

import resource

import pytest
import torch

from stream_vl_ros.engine.out_of_memory import is_out_of_memory
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import ConfigError
from stream_vl_ros.report.gauge import Gauge, asked_bytes

CPU = Gauge(torch.device("cpu"))


@pytest.mark.counts
def test_the_peak_is_seen_after_it_is_gone_and_forgotten_at_a_reset():
    before = CPU.reset()
    block = torch.ones(64 * MIB // 4)
    assert CPU.held() - before > 60 * MIB
    del block
    assert CPU.peak() - before > 60 * MIB
    again = CPU.reset()
    assert CPU.held() - before < 16 * MIB
    assert CPU.peak() - again < 16 * MIB


@pytest.mark.counts
def test_a_cap_makes_allocations_fail_and_goes_away():
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with CPU.cap(64):
        small = torch.ones(4 * MIB // 4)
        with pytest.raises(RuntimeError) as raised:
            torch.ones(256 * MIB // 4)
        assert is_out_of_memory(raised.value)
        assert asked_bytes(str(raised.value)) == 256 * MIB
    del small
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    assert torch.ones(256 * MIB // 4).sum() == 64 * MIB
    with CPU.cap(0):
        assert resource.getrlimit(resource.RLIMIT_AS) == limits
    with pytest.raises(ConfigError, match="-3"), CPU.cap(-3):
        pass


@pytest.mark.counts
def test_what_was_freed_before_is_no_way_around_a_cap():
    # Blocks below glibc's threshold come from its heap, which keeps them; the last one holds the heap's end up.
    blocks = [torch.ones(2**16 // 4) for _ in range(256 * 16)]
    del blocks[:-1]
    with CPU.cap(16), pytest.raises(RuntimeError) as raised:
        torch.cat([torch.ones(2**20 // 4) for _ in range(64)])
    assert is_out_of_memory(raised.value)
    again = [torch.ones(2**20 // 4) for _ in range(128)]
    assert len(again) == 128


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        ("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has", round(2.5 * 2**30)),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123456 bytes. Error code 12", 123456),
        ("Unable to allocate 12.0 MiB for an array with shape (3,)", 12 * MIB),
        ("std::bad_alloc", None),
    ],
)
def test_what_was_asked_is_read_from_the_allocators_words(message, asked):
    assert asked_bytes(message) == asked
