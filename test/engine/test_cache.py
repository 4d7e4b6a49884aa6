"""The KV cache, without a model: keys and values are made up, contents are compared with plain lists."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stream_vl_ros.engine.attention import KeyValueParts
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.segments import CacheShape, Snapshot
from stream_vl_ros.errors import CacheError

SHAPE = CacheShape(layers=2, kv_heads=2, head_dim=4, dtype=torch.float32, device=torch.device("cpu"))
Layers = list[tuple[Tensor, Tensor]]


def make_tokens(count: int, seed: int, shape: CacheShape = SHAPE, rows: int = 1) -> Layers:
    """Keys and values of every layer for new tokens, each value of its own."""
    generator = torch.Generator().manual_seed(seed)
    size = (rows, shape.kv_heads, count, shape.head_dim)
    return [
        tuple(torch.randn(size, generator=generator).to(shape.dtype) for _ in range(2)) for _ in range(shape.layers)
    ]


def append(cache: KVCache, tokens: Layers) -> list[KeyValueParts]:
    """What a forward pass does with the cache."""
    parts = []
    with cache.extend(tokens[0][0].shape[2]):
        for layer, (key, value) in enumerate(tokens):
            seen, same = cache.update(key, value, layer)
            assert seen is same
            parts.append(seen)
    return parts


def filled(count: int, seed: int = 0, shape: CacheShape = SHAPE, capacity: int = 4) -> KVCache:
    cache = KVCache(shape, initial_capacity=capacity)
    append(cache, make_tokens(count, seed, shape))
    return cache


def joined(*chunks: Layers) -> Layers:
    rows = max(c[0][0].shape[0] for c in chunks)
    return [
        tuple(torch.cat([c[layer][i].expand(rows, -1, -1, -1) for c in chunks], dim=2) for i in (0, 1))
        for layer in range(len(chunks[0]))
    ]


def contents(cache: KVCache) -> Layers:
    return [cache.layer_tokens(layer) for layer in range(cache.shape.layers)]


def assert_holds(cache: KVCache, *chunks: Layers) -> None:
    expected = joined(*chunks)
    assert cache.length == cache.get_seq_length() == expected[0][0].shape[2]
    for got, wanted in zip(contents(cache), expected, strict=True):
        assert torch.equal(got[0], wanted[0])
        assert torch.equal(got[1], wanted[1])


def pair_of(parts: KeyValueParts) -> tuple[Tensor, Tensor]:
    return parts.shared[0].key, parts.shared[0].value


class Allocations(TorchDispatchMode):
    """Counts bytes of new memory and tensors that are written to."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.writes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        inputs = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        if isinstance(out, Tensor) and out.untyped_storage().data_ptr() not in inputs:
            self.bytes += out.untyped_storage().nbytes()
        self.writes += func._schema.is_mutable
        return out


# --- growing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", [[1], [1] * 20, [3, 50, 1, 1, 7], [64, 1]])
def test_tokens_are_kept_while_it_grows(sizes, dtype):
    shape = CacheShape(3, 2, 4, dtype, torch.device("cpu"))
    cache, chunks = KVCache(shape, initial_capacity=2), []
    for i, size in enumerate(sizes):
        chunks.append(make_tokens(size, i, shape))
        before = cache.length
        parts = append(cache, chunks[-1])
        for layer, part in enumerate(parts):
            assert part.shared == ()
            assert part.past == before
            assert torch.equal(part.own[0], joined(*chunks)[layer][0])
            assert torch.equal(part.own[1], joined(*chunks)[layer][1])
        assert_holds(cache, *chunks)
    assert cache.own_length == cache.length == sum(sizes)


def test_an_empty_cache():
    cache = KVCache(SHAPE)
    assert (cache.length, cache.own_length, cache.memory_bytes, cache.get_seq_length(1)) == (0, 0, 0, 0)
    assert cache.signature() == KVCache(SHAPE).signature() == cache.clone().signature()
    assert cache.attention_mask().shape == (1, 0)
    fork = cache.fork()
    append(cache, make_tokens(3, 0))
    assert fork.length == 0


def test_growing_allocates_seldom_and_little():
    cache, sizes = KVCache(SHAPE, initial_capacity=8), set()
    with Allocations() as counted:
        for i in range(500):
            append(cache, make_tokens(1, i))
            sizes.add(cache.memory_bytes)
    assert len(sizes) < 15
    assert cache.memory_bytes <= 1.5 * 500 * SHAPE.bytes_per_token + SHAPE.bytes_per_token
    assert counted.bytes < 10 * 500 * SHAPE.bytes_per_token


def test_memory_is_what_the_tensors_take():
    cache = filled(5, capacity=7)
    assert SHAPE.bytes_per_token == 2 * 2 * 2 * 4 * 4
    assert cache.memory_bytes == 7 * SHAPE.bytes_per_token
    parts = append(cache, make_tokens(30, 1))
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for p in parts for t in p.own}
    assert len(storages) == 2 * SHAPE.layers
    assert cache.memory_bytes == sum(storages.values()) >= 35 * SHAPE.bytes_per_token
    fork = cache.fork(rows=3, initial_capacity=2)
    assert (fork.own_bytes, fork.memory_bytes) == (0, cache.memory_bytes)
    append(fork, make_tokens(2, 0, rows=3))
    assert fork.own_bytes == 3 * 2 * SHAPE.bytes_per_token
    assert fork.memory_bytes == cache.memory_bytes + fork.own_bytes


def test_memory_that_only_forks_hold_is_known():
    cache, a = filled(8, capacity=8), make_tokens(8, 0)
    fork, mark = cache.fork(), cache.snapshot()
    assert cache.pinned_bytes == 0
    append(cache, make_tokens(1, 1))
    assert cache.pinned_bytes == 8 * SHAPE.bytes_per_token
    fork.discard()
    gc.collect()
    assert cache.pinned_bytes == 8 * SHAPE.bytes_per_token
    assert_holds(cache, a, make_tokens(1, 1))
    del mark
    gc.collect()
    assert cache.pinned_bytes == 0


def test_spare_room_can_be_bounded():
    cache = KVCache(SHAPE, initial_capacity=8, max_capacity=20)
    for i in range(20):
        append(cache, make_tokens(1, i))
        assert cache.own_bytes <= 20 * SHAPE.bytes_per_token
    append(cache, make_tokens(1, 20))
    assert cache.own_bytes == 21 * SHAPE.bytes_per_token
    assert_holds(cache, *(make_tokens(1, i) for i in range(21)))


@pytest.mark.parametrize("capacity", [3, 10, 11, 64])
def test_room_can_be_made_smaller_and_larger(capacity):
    cache, first = filled(10, capacity=32), make_tokens(10, 0)
    fork = cache.fork()
    cache.resize(capacity)
    room = max(capacity, 10)
    assert cache.own_bytes == room * SHAPE.bytes_per_token
    more = make_tokens(room - 10 + 1, 5)
    append(cache, more)
    assert cache.own_bytes == (room + 1) * SHAPE.bytes_per_token  # no spare room
    assert_holds(cache, first, more)
    assert_holds(fork, first)
    cache.resize(None)
    append(cache, make_tokens(1, 6))
    assert cache.own_bytes > (room + 2) * SHAPE.bytes_per_token


def test_room_that_cannot_be_had_changes_nothing(monkeypatch):
    cache, first, more = filled(10, capacity=16), make_tokens(10, 0), make_tokens(7, 1)
    monkeypatch.setattr(cache, "_new_pair", lambda _: (_ for _ in ()).throw(MemoryError("no memory")))
    with pytest.raises(MemoryError):
        cache.resize(1000)
    monkeypatch.undo()
    assert cache.own_bytes == 16 * SHAPE.bytes_per_token
    append(cache, more)
    assert cache.own_bytes == 24 * SHAPE.bytes_per_token  # as it would have grown
    assert_holds(cache, first, more)


def test_a_pass_that_fails_leaves_no_tokens():
    cache, first = KVCache(SHAPE, initial_capacity=2), make_tokens(3, 0)
    append(cache, first)
    signature = cache.signature()
    more = make_tokens(9, 1)
    with pytest.raises(ZeroDivisionError), cache.extend(9):  # noqa: PT012
        cache.update(*more[0], 0)
        raise ZeroDivisionError
    assert_holds(cache, first)
    assert cache.signature() == signature
    append(cache, more)
    assert_holds(cache, first, more)


def test_tokens_come_only_inside_of_extend():
    cache = filled(2)
    with pytest.raises(RuntimeError, match="3 tokens outside"):
        cache.update(*make_tokens(3, 0)[0], 0)
    with pytest.raises(RuntimeError, match="3 tokens outside"), cache.extend(2):
        cache.update(*make_tokens(3, 0)[0], 0)
    assert cache.length == 2


def test_memory_that_runs_out_leaves_the_cache_as_it_was(monkeypatch):
    cache, first = KVCache(SHAPE, initial_capacity=4), make_tokens(4, 0)
    append(cache, first)
    before, made, empty = cache.memory_bytes, [], torch.empty

    def failing(*args, **kwargs):
        if len(made) == 2:
            raise MemoryError
        made.append(1)
        return empty(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", failing)
    with pytest.raises(MemoryError):
        append(cache, make_tokens(50, 1))
    monkeypatch.undo()
    assert cache.memory_bytes == before
    assert_holds(cache, first)
    append(cache, make_tokens(50, 1))
    assert_holds(cache, first, make_tokens(50, 1))


# --- sharing ------------------------------------------------------------------------------------------------


def test_a_fork_grows_on_its_own():
    a, b, c = (make_tokens(n, n) for n in (5, 3, 2))
    cache = KVCache(SHAPE, initial_capacity=64)
    append(cache, a)
    fork = cache.fork()
    assert_holds(fork, a)
    append(cache, b)
    parts = append(fork, c)
    assert_holds(cache, a, b)
    assert_holds(fork, a, c)
    assert (fork.own_length, parts[0].past) == (2, 0)
    assert torch.equal(parts[1].shared[0].value, a[1][1])


def test_restore_then_append_never_changes_a_fork():
    a, b, c = (make_tokens(n, n) for n in (5, 3, 4))
    cache = KVCache(SHAPE, initial_capacity=64)
    append(cache, a)
    mark = cache.snapshot()
    append(cache, b)
    fork = cache.fork()
    nested = fork.fork()
    del fork
    cache.restore(mark)
    append(cache, c)
    assert_holds(cache, a, c)
    assert_holds(nested, a, b)


def test_a_failing_pass_after_restore_never_changes_a_fork():
    a, b = make_tokens(5, 0), make_tokens(3, 1)
    cache = KVCache(SHAPE, initial_capacity=64)
    append(cache, a)
    mark = cache.snapshot()
    append(cache, b)
    fork = cache.fork()
    cache.restore(mark)
    with pytest.raises(ZeroDivisionError), cache.extend(3):  # noqa: PT012
        cache.update(*make_tokens(3, 2)[0], 0)
        raise ZeroDivisionError
    assert_holds(fork, a, b)
    assert_holds(cache, a)


def test_buffers_are_written_again_once_no_fork_covers_them():
    cache = filled(5, capacity=64)
    mark = cache.snapshot()
    append(cache, make_tokens(3, 1))
    fork = cache.fork()
    cache.restore(mark)
    del fork
    gc.collect()
    with Allocations() as counted:
        append(cache, make_tokens(3, 2))
    assert counted.bytes < 64 * SHAPE.bytes_per_token


def test_forks_of_forks():
    chunks = [make_tokens(n, n) for n in (4, 1, 6, 2)]
    cache = KVCache(SHAPE, initial_capacity=2)
    append(cache, chunks[0])
    forks = [cache]
    for chunk in chunks[1:]:
        forks.append(forks[-1].fork())
        append(forks[-1], chunk)
    for depth, fork in enumerate(forks):
        assert_holds(fork, *chunks[: depth + 1])
    parts = append(forks[-1], make_tokens(1, 99))
    assert [s.key.shape[2] for s in parts[0].shared] == [4, 1, 6]
    for fork in forks[:-1]:
        fork.clear()
    assert_holds(forks[-1], *chunks, make_tokens(1, 99))


def test_rows_share_the_beginning():
    a, b = make_tokens(5, 0), make_tokens(3, 1, rows=4)
    cache = filled(5)
    fork = cache.fork(rows=4)
    parts = append(fork, b)
    assert parts[0].shared[0].key.shape[0] == 1
    assert parts[0].own[0].shape == (4, 2, 3, 4)
    assert_holds(fork, a, b)
    assert fork.attention_mask().shape == (4, 8)
    with pytest.raises(ValueError, match="4 rows cannot be forked"):
        fork.fork()
    assert_holds(fork.clone(), a, b)


@pytest.mark.parametrize("length", [10, 10_000])
def test_a_fork_allocates_and_copies_nothing(length):
    cache = filled(length, capacity=length + 1)
    with Allocations() as counted:
        fork = cache.fork()
    assert (counted.bytes, counted.writes, fork.own_bytes) == (0, 0, 0)
    shared = {t.data_ptr() for part in append(fork, make_tokens(1, 1)) for t in pair_of(part)}
    assert shared == {t.data_ptr() for part in append(cache, make_tokens(1, 2)) for t in part.own}


def test_a_fork_costs_the_same_at_any_length():
    def operations(length: int) -> int:
        calls = 0

        class Count(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                nonlocal calls
                calls += 1
                return func(*args, **(kwargs or {}))

        cache = filled(length)
        with Count():
            cache.fork()
        return calls

    assert operations(10) == operations(20_000)


def test_attending_through_a_fork_copies_nothing_shared():
    cache = filled(10_000)
    fork, more = cache.fork(initial_capacity=4), make_tokens(1, 1)
    with Allocations() as counted:
        append(fork, more)
    assert counted.bytes <= 4 * SHAPE.bytes_per_token


def test_a_clone_shares_nothing():
    a, b = make_tokens(5, 0), make_tokens(3, 1)
    cache = KVCache(SHAPE, initial_capacity=64)
    append(cache, a)
    fork = cache.fork()
    append(fork, b)
    clone = fork.clone()
    assert_holds(clone, a, b)
    assert clone.signature() == fork.signature()
    assert clone.memory_bytes >= 8 * SHAPE.bytes_per_token
    ours = {t.untyped_storage().data_ptr() for part in append(clone, make_tokens(1, 2)) for t in part.own}
    parts = append(fork, make_tokens(1, 3))
    assert not ours & {t.untyped_storage().data_ptr() for p in parts for t in (*p.own, *pair_of(p))}
    fork.discard()
    cache.clear()
    assert_holds(clone, a, b, make_tokens(1, 2))


# --- going back ---------------------------------------------------------------------------------------------


def test_restore():
    a, b, c = (make_tokens(n, n) for n in (5, 3, 4))
    cache = KVCache(SHAPE, initial_capacity=6)
    append(cache, a)
    mark, signature = cache.snapshot(), cache.signature()
    for chunk in (b, c):
        append(cache, chunk)
        cache.restore(mark)
        assert_holds(cache, a)
        assert cache.signature() == signature
    cache.restore(cache.snapshot())
    append(cache, c)
    assert_holds(cache, a, c)


def test_a_snapshot_holds_what_it_saw_and_no_more():
    cache = filled(100)
    held = weakref.ref(cache._buffers[0][0].untyped_storage())
    mark = cache.snapshot()
    cache.clear()
    gc.collect()
    assert held() is not None
    assert mark.length == 100
    del mark
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("between", ["append", "clear", "discard", "truncate", "rewrite", "restore"])
def test_a_snapshot_outlives_everything(between):
    cache, a, b = KVCache(SHAPE, initial_capacity=16), make_tokens(5, 0), make_tokens(3, 1)
    empty = cache.snapshot()
    append(cache, a)
    mark, signature = cache.snapshot(), cache.signature()
    if between == "append":
        append(cache, make_tokens(40, 2))
    elif between == "truncate":
        cache.truncate(2)
        append(cache, make_tokens(9, 3))
    elif between == "rewrite":
        cache.rewrite(2, lambda layer, keys, values: (keys[:, :, :2].clone(), values[:, :, :2].clone()))
        append(cache, make_tokens(9, 3))
    elif between == "restore":
        cache.restore(empty)
        append(cache, make_tokens(9, 3))
    else:
        getattr(cache, between)()
        append(cache, make_tokens(9, 3))
    cache.restore(mark)
    assert_holds(cache, a)
    assert cache.signature() == signature
    append(cache, b)
    assert_holds(cache, a, b)
    # And once more: what came after it the first time has not touched it.
    cache.restore(mark)
    assert_holds(cache, a)
    cache.restore(empty)
    assert cache.length == 0


def test_a_snapshot_can_be_restored_into_another_cache():
    cache, other, a, b = filled(5), filled(9, seed=7), make_tokens(5, 0), make_tokens(3, 1)
    other.restore(cache.snapshot())
    append(other, b)
    assert_holds(other, a, b)
    assert_holds(cache, a)
    assert other.memory_bytes == cache.memory_bytes + other.own_bytes
    other.clear()
    assert (other.length, other.memory_bytes) == (0, 0)


def test_snapshots_of_another_model_are_refused():
    wide = CacheShape(2, 2, 8, torch.float32, torch.device("cpu"))
    cache = filled(5)
    with pytest.raises(ValueError, match="head_dim=8"):
        cache.restore(filled(5, shape=wide).snapshot())
    assert_holds(cache, make_tokens(5, 0))


def test_truncate():
    cache, a = KVCache(SHAPE, initial_capacity=16), make_tokens(5, 0)
    append(cache, a)
    fork = cache.fork()
    append(cache, make_tokens(4, 1))
    cache.truncate(5)
    assert_holds(cache, a)
    append(fork, make_tokens(2, 2))
    fork.truncate(5)
    assert_holds(fork, a)
    for length in (4, 6):
        with pytest.raises(ValueError, match=f"length={length}"):
            fork.truncate(length)


# --- rewriting ----------------------------------------------------------------------------------------------


def every_second(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    return keys[:, :, layer % 2 :: 2].contiguous(), values[:, :, layer % 2 :: 2].contiguous()


def halved(tokens: Layers) -> Layers:
    return [every_second(layer, *pair) for layer, pair in enumerate(tokens)]


def test_rewriting_uses_the_same_memory_when_nobody_looks():
    cache, a, b = KVCache(SHAPE, initial_capacity=32), make_tokens(20, 0), make_tokens(4, 1)
    append(cache, a)
    places = [t.data_ptr() for pair in cache._buffers for t in pair]
    with Allocations() as counted:
        cache.rewrite(10, every_second)
    assert [t.data_ptr() for pair in cache._buffers for t in pair] == places
    assert counted.bytes <= 10 * SHAPE.bytes_per_token
    assert_holds(cache, halved(a))
    append(cache, b)
    assert_holds(cache, halved(a), b)


@pytest.mark.parametrize("shrink", [False, True])
def test_rewriting_leaves_forks_alone(shrink):
    cache, a, b = KVCache(SHAPE, initial_capacity=32), make_tokens(20, 0), make_tokens(4, 1)
    append(cache, a)
    fork = cache.fork()
    append(fork, b)
    cache.rewrite(10, every_second, shrink=shrink)
    assert_holds(cache, halved(a))
    append(cache, make_tokens(9, 2))
    assert_holds(fork, a, b)
    assert cache.pinned_bytes == 32 * SHAPE.bytes_per_token


def test_rewriting_a_fork_lets_go_of_what_it_shared():
    cache, a, b = filled(10), make_tokens(10, 0), make_tokens(4, 1)
    fork = cache.fork()
    append(fork, b)
    fork.rewrite(7, every_second)
    assert_holds(fork, halved(joined(a, b)))
    assert fork.shared == ()
    assert fork.memory_bytes == fork.own_bytes
    assert_holds(cache, a)


def test_rewriting_can_give_memory_back():
    cache = filled(100, capacity=200)
    cache.rewrite(50, every_second, shrink=True)
    assert cache.memory_bytes == 50 * SHAPE.bytes_per_token
    assert_holds(cache, halved(make_tokens(100, 0)))


def test_rewriting_may_grow():
    cache, a = filled(6), make_tokens(6, 0)
    cache.rewrite(12, lambda layer, keys, values: (keys.repeat(1, 1, 2, 1), values.repeat(1, 1, 2, 1)))
    assert_holds(cache, a, a)


@pytest.mark.parametrize("forked", [False, True])
@pytest.mark.parametrize("shrink", [False, True])
@pytest.mark.parametrize("failing", [0, 1])
def test_rewriting_that_fails(failing, shrink, forked):
    cache, a = filled(20, capacity=32), make_tokens(20, 0)
    fork = cache.fork() if forked else None

    def make(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer == failing:
            raise MemoryError("no room")
        return every_second(layer, keys, values)

    lost = failing == 1 and not forked
    with pytest.raises(CacheError if lost else MemoryError, match="no room"):
        cache.rewrite(10, make, shrink=shrink)
    if lost:
        assert (cache.length, cache.memory_bytes) == (0, 0)
        append(cache, a)
    assert_holds(cache, a)
    append(cache, make_tokens(3, 1))
    assert_holds(cache, a, make_tokens(3, 1))
    if fork is not None:
        assert_holds(fork, a)


@pytest.mark.parametrize("how", ["clear", "discard"])
def test_memory_is_freed(how):
    cache = filled(50)
    base = weakref.ref(cache._buffers[0][0].untyped_storage())
    fork = cache.fork()
    append(fork, make_tokens(20, 1))
    own = weakref.ref(fork._buffers[1][1].untyped_storage())
    getattr(fork, how)()
    gc.collect()
    assert own() is None
    assert (fork.own_bytes, fork.own_length, fork.length) == (0, 0, 50 if how == "clear" else 0)
    cache.clear()
    gc.collect()
    # A cleared fork still sees what it shares; a discarded one has let go.
    assert (base() is None) == (how == "discard")
    append(fork, make_tokens(2, 2))
    assert_holds(fork, *([make_tokens(50, 0)] if how == "clear" else []), make_tokens(2, 2))


def test_forks_keep_what_they_see_when_the_stream_is_cleared():
    cache, a = filled(5), make_tokens(5, 0)
    fork = cache.fork()
    cache.clear()
    assert cache.memory_bytes == 0
    append(cache, make_tokens(5, 1))
    assert_holds(fork, a)
    storage = weakref.ref(fork._base[0].layers[0][0].untyped_storage())
    fork.discard()
    gc.collect()
    assert storage() is None


# --- looking ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_signature(dtype):
    shape = CacheShape(2, 2, 4, dtype, torch.device("cpu"))
    cache, twin = filled(6, shape=shape, capacity=4), KVCache(shape, initial_capacity=100)
    for begin, end in ((0, 1), (1, 6)):
        append(twin, [(k[:, :, begin:end], v[:, :, begin:end]) for k, v in make_tokens(6, 0, shape)])
    assert cache.signature() == twin.signature() == cache.fork().signature()
    before = cache.signature()
    fork = cache.fork()
    append(fork, make_tokens(2, 1, shape))
    assert fork.signature() != before == cache.signature()
    for layer in range(2):
        for which in range(2):
            # The smallest change there is, in any tensor.
            bits = twin._buffers[layer][which].view(torch.uint8)
            bits[0, 1, 3, 5] ^= 1
            assert twin.signature() != before
            bits[0, 1, 3, 5] ^= 1
    assert twin.signature() == before
    other = filled(6, shape=CacheShape(2, 2, 4, torch.float16, torch.device("cpu")))
    assert other.signature() != before


def test_signature_tells_keys_from_values():
    cache, swapped = KVCache(SHAPE), KVCache(SHAPE)
    tokens = make_tokens(3, 0)
    append(cache, tokens)
    append(swapped, [(v, k) for k, v in tokens])
    assert cache.signature() != swapped.signature()


def test_layer_tokens_are_copies():
    cache = filled(5)
    before = cache.signature()
    for tensor in cache.layer_tokens(0):
        tensor.zero_()
    assert cache.signature() == before


def test_attention_mask():
    cache = filled(3)
    assert cache.attention_mask().tolist() == [[1, 1, 1]]
    fork = cache.fork(rows=2)
    append(fork, make_tokens(1, 1, rows=2))
    assert fork.attention_mask().tolist() == [[1] * 4] * 2
    assert fork.attention_mask().dtype == torch.int64
    assert fork.attention_mask(tail=3).tolist() == [[1] * 7] * 2


def test_append_takes_tokens_that_are_known():
    cache, source = filled(3), filled(5)
    fork = cache.fork()
    cache.append([source.layer_tokens(i) for i in range(SHAPE.layers)])
    assert (cache.length, fork.length) == (8, 3)
    for layer in range(SHAPE.layers):
        for got, first, then in zip(
            cache.layer_tokens(layer), fork.layer_tokens(layer), source.layer_tokens(layer), strict=True
        ):
            assert torch.equal(got, torch.cat((first, then), dim=2))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda pairs: pairs[1:],
        lambda pairs: [(k[:, :1], v) for k, v in pairs],
        lambda pairs: [(k.half(), v) for k, v in pairs],
        lambda pairs: [*pairs[:-1], (pairs[-1][0][:, :, :2], pairs[-1][1])],
    ],
)
def test_append_refuses_what_does_not_fit(wrong):
    cache, source = filled(3), filled(5)
    before = cache.signature()
    with pytest.raises(ValueError, match="tokens to append"):
        cache.append(wrong([source.layer_tokens(i) for i in range(SHAPE.layers)]))
    assert cache.signature() == before


# --- everything in any order --------------------------------------------------------------------------------


@dataclass
class Naive:
    """One cache the simple way: the tokens themselves, as one number each, in a list."""

    real: KVCache
    origin: list[int]
    all: list[int]


TINY = CacheShape(layers=1, kv_heads=1, head_dim=1, dtype=torch.float32, device=torch.device("cpu"))


class Caches(RuleBasedStateMachine):
    """Caches, forks and forks of forks; each holds what its list holds, after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.caches: list[Naive] = []
        self.marks: list[tuple[Snapshot, list[int]]] = []
        self.next = 1

    @initialize(capacity=st.integers(1, 6))
    def begin(self, capacity: int) -> None:
        self.caches = [Naive(KVCache(TINY, initial_capacity=capacity), [], [])]

    def pick(self, data) -> Naive:
        return self.caches[data.draw(st.integers(0, len(self.caches) - 1), label="cache")]

    def store(self, cache: Naive, count: int) -> list[int]:
        new = list(range(self.next, self.next + count))
        self.next += count
        keys = torch.tensor(new, dtype=torch.float32)[None, None, :, None]
        cache.real.update(keys, -keys, 0)
        return new

    @rule(data=st.data(), count=st.integers(1, 5))
    def append(self, data, count: int) -> None:
        cache = self.pick(data)
        with cache.real.extend(count):
            cache.all = cache.all + self.store(cache, count)

    @rule(data=st.data(), count=st.integers(1, 5))
    def append_and_fail(self, data, count: int) -> None:
        cache = self.pick(data)
        with pytest.raises(KeyError), cache.real.extend(count):  # noqa: PT012
            self.store(cache, count)
            raise KeyError

    @precondition(lambda self: len(self.caches) < 6)
    @rule(data=st.data(), capacity=st.integers(1, 6))
    def fork(self, data, capacity: int) -> None:
        cache = self.pick(data)
        self.caches.append(Naive(cache.real.fork(initial_capacity=capacity), cache.all, cache.all))

    @precondition(lambda self: len(self.caches) < 6)
    @rule(data=st.data())
    def clone(self, data) -> None:
        cache = self.pick(data)
        self.caches.append(Naive(cache.real.clone(), [], cache.all))

    @precondition(lambda self: len(self.marks) < 4)
    @rule(data=st.data())
    def snapshot(self, data) -> None:
        cache = self.pick(data)
        self.marks.append((cache.real.snapshot(), cache.all))

    @precondition(lambda self: self.marks)
    @rule(data=st.data())
    def restore(self, data) -> None:
        cache = self.pick(data)
        mark, cache.all = self.marks[data.draw(st.integers(0, len(self.marks) - 1), label="snapshot")]
        cache.real.restore(mark)

    @precondition(lambda self: self.marks)
    @rule(data=st.data())
    def forget_snapshot(self, data) -> None:
        del self.marks[data.draw(st.integers(0, len(self.marks) - 1), label="snapshot")]

    @rule(data=st.data())
    def truncate(self, data) -> None:
        cache = self.pick(data)
        shared = sum(s.length for s in cache.real.shared)
        length = data.draw(st.integers(shared, len(cache.all)), label="length")
        cache.real.truncate(length)
        cache.all = cache.all[:length]

    @rule(data=st.data(), shrink=st.booleans())
    def rewrite(self, data, shrink: bool) -> None:
        cache = self.pick(data)
        order = data.draw(st.permutations(range(len(cache.all))), label="order")
        keep = torch.tensor(order[: data.draw(st.integers(0, len(order)), label="kept")], dtype=torch.int64)
        cache.real.rewrite(len(keep), lambda layer, keys, values: (keys[:, :, keep], values[:, :, keep]), shrink=shrink)
        cache.all = [cache.all[i] for i in keep.tolist()]

    @rule(data=st.data())
    def clear(self, data) -> None:
        cache = self.pick(data)
        cache.real.clear()
        cache.all = cache.origin

    @precondition(lambda self: len(self.caches) > 1)
    @rule(data=st.data())
    def close(self, data) -> None:
        cache = self.pick(data)
        if data.draw(st.booleans(), label="discard"):
            cache.real.discard()
        self.caches.remove(cache)

    @invariant()
    def contents(self) -> None:
        for cache in self.caches:
            keys, values = cache.real.layer_tokens(0)
            assert keys.flatten().tolist() == cache.all
            assert values.flatten().tolist() == [-x for x in cache.all]
            assert cache.real.length == len(cache.all)
            storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in held_by(cache.real)}
            assert cache.real.memory_bytes == sum(s.nbytes() for s in storages.values())


def held_by(cache: KVCache) -> list[Tensor]:
    segments = [t for s in cache.shared for pair in s.layers for t in pair]
    return [*segments, *(t for pair in cache._buffers for t in pair)]


Caches.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCaches = Caches.TestCase
