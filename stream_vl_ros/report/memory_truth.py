"""Whether the cache's memory is what is reported: by its tensors, and by the allocator itself."""

from __future__ import annotations

import gc

from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.segments import CacheShape
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.gauge import Gauge
from stream_vl_ros.report.results import Point, Section

MEASURE = "cache_memory_mb"


def tensor_bytes(cache: KVCache) -> int:
    """Bytes of the memory behind all tensors of a cache, each counted once however many tensors share it."""
    pairs = [*cache.buffers, *(layer for segment in cache.shared for layer in segment.layers)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for pair in pairs for t in pair}
    return sum(storages.values())


def allocator_bytes(gauge: Gauge, shape: CacheShape, tokens: int) -> tuple[int, int]:
    """What the allocator hands out for a cache with room for `tokens`, and what the cache reports of itself."""
    gc.collect()
    before = gauge.allocated()
    cache = KVCache(shape, initial_capacity=tokens, max_capacity=tokens)
    cache.resize(tokens)
    after = gauge.allocated()
    return after - before, cache.memory_bytes


def memory(bench: Bench) -> Section:
    section = Section(
        "memory",
        "Memory of the cache",
        "frames",
        f"{MEASURE}, what is reported as the memory of the cache (in MiB of 2^20 bytes; cache_bytes in `~/status`), "
        "against the bytes behind its tensors, and against what the allocator hands out for a cache of that size.",
    )
    gauge = bench.sides.gauge
    per_token, worst, same = 0, 0.0, True
    for frames in bench.plan.lengths:
        clip = next(bench.material.clips(1, frames))
        stream, _ = bench.sides.watch(clip, bench.config())
        reported, tensors = stream.cache.memory_bytes, tensor_bytes(stream.cache)
        same = same and reported == tensors
        per_token = stream.cache.shape.bytes_per_token
        capacity = reported // per_token
        handed, said = allocator_bytes(gauge, stream.cache.shape, capacity)
        allocations = 2 * stream.cache.shape.layers
        worst = max(worst, abs(handed - said) / allocations)
        section.points += [
            Point("reported", MEASURE, "MiB", frames, (reported / MIB,)),
            Point("tensors", MEASURE, "MiB", frames, (tensors / MIB,)),
            Point("allocator", MEASURE, "MiB", frames, (handed / MIB,), timed=True),
            Point("stream", "cache", "tokens", frames, (stream.cache.length,)),
        ]
        bench.say(f"{frames} frames: {reported} bytes reported, {tensors} in tensors, {handed} by the allocator")
    within = "within" if worst <= gauge.granularity else "MORE than"
    section.findings.append(
        f"A token takes {per_token:,} bytes. What is reported is {'exactly' if same else 'NOT'} what the tensors take; "
        f"the allocator's own figure is within {worst:,.0f} bytes an allocation of it, "
        f"{within} the {gauge.granularity:,} by which it may round one up."
    )
    return section
