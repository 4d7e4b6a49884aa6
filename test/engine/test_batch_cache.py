"""The cache of a running batch, without a model: what each row reads against plain concatenation."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stream_vl_ros.engine.attention import KeyValueParts
from stream_vl_ros.engine.batch_cache import BatchCache, plan_reads
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.segments import CacheShape

TINY = CacheShape(layers=2, kv_heads=1, head_dim=1, dtype=torch.float32, device=torch.device("cpu"))


def store(cache: KVCache | BatchCache, rows: list[list[int]]) -> list[KeyValueParts]:
    """What a forward pass does, every token one number."""
    keys = torch.tensor(rows, dtype=torch.float32)[:, None, :, None]
    with cache.extend(len(rows[0])):
        return [cache.update(keys + 1000 * layer, -keys, layer)[0] for layer in range(TINY.layers)]


def seen(parts: KeyValueParts, row: int) -> list[int]:
    """The tokens that a row attends to, by their keys; each must be there once."""
    ranges = [s.key for s in parts.shared if s.rows is None or row in s.rows.tolist()]
    shared = [int(x) for key in ranges for x in key.flatten()]
    length = parts.past + 1 if parts.lengths is None else int(parts.lengths[row])
    return shared + [int(x) for x in parts.own[0][row, :, :length].flatten()]


def filled(tokens: list[int]) -> KVCache:
    cache = KVCache(TINY, initial_capacity=64)
    if tokens:
        store(cache, [tokens])
    return cache


def test_rows_of_one_moment_share_one_read():
    stream = filled([1, 2, 3])
    batch = BatchCache(TINY)
    for _ in range(3):
        batch.join(stream.fork())
    parts = store(batch, [[7], [8], [9]])[0]
    assert len(parts.shared) == 1
    assert parts.shared[0].rows is None
    assert parts.shared[0].key.data_ptr() == stream.own_tokens(0)[0].data_ptr()
    assert [seen(parts, i) for i in range(3)] == [[1, 2, 3, n] for n in (7, 8, 9)]


def test_rows_of_different_moments_share_what_they_have_in_common():
    stream, batch = filled([1, 2, 3]), BatchCache(TINY)
    batch.join(stream.fork())
    store(stream, [[4, 5]])
    late = stream.fork()
    store(late, [[50]])
    batch.join(late)
    batch.join(stream.fork())
    parts = store(batch, [[7], [8], [9]])[0]
    assert [(s.key.flatten().tolist(), None if s.rows is None else s.rows.tolist()) for s in parts.shared] == [
        ([1, 2, 3], None),
        ([4, 5], [1, 2]),
    ]
    assert [seen(parts, i) for i in range(3)] == [[1, 2, 3, 7], [1, 2, 3, 4, 5, 50, 8], [1, 2, 3, 4, 5, 9]]
    assert parts.lengths.tolist() == [1, 2, 1]


def test_nothing_is_read_twice():
    stream = filled(list(range(10)))
    forks = [stream.fork()]
    store(stream, [[10]])
    forks += [stream.fork(), stream.fork()]
    nested = forks[1].fork()
    spans = plan_reads([f.shared for f in (*forks, nested)])
    assert sum(s.end - s.start for s in spans) == 11


def test_a_row_that_leaves_frees_what_it_shared():
    stream, batch = filled([1, 2, 3]), BatchCache(TINY)
    storage = weakref.ref(stream.own_tokens(0)[0].untyped_storage())
    batch.join(stream.fork())
    batch.join(KVCache(TINY))
    store(batch, [[7], [8]])
    stream.discard()
    assert storage() is not None
    batch.leave(0)
    gc.collect()
    assert storage() is None
    assert batch.memory_bytes > 0
    batch.leave(0)
    assert (batch.rows, batch.memory_bytes) == (0, 0)


def test_a_pass_that_fails_leaves_no_tokens():
    batch = BatchCache(TINY)
    batch.join(filled([1]).fork())
    with pytest.raises(ZeroDivisionError), batch.extend(1):  # noqa: PT012
        batch.update(torch.full((1, 1, 1, 1), 66.0), torch.zeros(1, 1, 1, 1), 0)
        raise ZeroDivisionError
    assert batch.length(0) == batch.get_seq_length() == 1
    assert seen(store(batch, [[7]])[0], 0) == [1, 7]


def test_misuse_is_refused():
    batch = BatchCache(TINY)
    batch.join(filled([1]).fork())
    with pytest.raises(ValueError, match="2 tokens per row"), batch.extend(2):
        pass
    with pytest.raises(RuntimeError, match=r"outside of extend"):
        batch.update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 0)


class Batches(RuleBasedStateMachine):
    """Rows come and go while the stream grows; each sees what its list holds, after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.next = 1
        self.expected: list[list[int]] = []

    @initialize(capacity=st.integers(1, 8))
    def begin(self, capacity: int) -> None:
        self.stream, self.video = KVCache(TINY, initial_capacity=capacity), []
        self.batch = BatchCache(TINY)

    def new(self, count: int) -> list[int]:
        self.next += count
        return list(range(self.next - count, self.next))

    @rule(count=st.integers(1, 5))
    def grow(self, count: int) -> None:
        tokens = self.new(count)
        store(self.stream, [tokens])
        self.video = self.video + tokens

    @rule()
    def forget(self) -> None:
        self.stream.clear()
        self.video = []

    @precondition(lambda self: self.video)
    @rule()
    def evict(self) -> None:
        self.stream.rewrite(1, lambda layer, keys, values: (keys[:, :, -1:].clone(), values[:, :, -1:].clone()))
        self.video = self.video[-1:]

    @precondition(lambda self: len(self.expected) < 6)
    @rule(question=st.integers(0, 120), nested=st.booleans())
    def join(self, question: int, nested: bool) -> None:
        fork = self.stream.fork()
        tokens = self.new(question)
        if tokens:
            store(fork, [tokens])
        self.batch.join(fork.fork() if nested else fork)
        self.expected.append(self.video + tokens)

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def leave(self, data) -> None:
        row = data.draw(st.integers(0, len(self.expected) - 1), label="row")
        self.batch.leave(row)
        self.expected[row] = self.expected[-1]
        self.expected.pop()

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def step(self, data) -> None:
        rows = list(range(len(self.expected)))
        if data.draw(st.booleans(), label="some"):
            rows = data.draw(st.permutations(rows), label="order")[: data.draw(st.integers(1, len(rows)), label="n")]
        new = self.new(len(rows))
        with self.batch.only(rows):
            parts = store(self.batch, [[n] for n in new])
        for place, (row, token) in enumerate(zip(rows, new, strict=True)):
            self.expected[row] = [*self.expected[row], token]
            assert sorted(seen(parts[0], place)) == sorted(self.expected[row])
            assert sorted(seen(parts[1], place)) == sorted(x + 1000 for x in self.expected[row])

    @invariant()
    def lengths(self) -> None:
        assert [self.batch.length(i) for i in range(self.batch.rows)] == [len(e) for e in self.expected]


Batches.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestBatches = Batches.TestCase
