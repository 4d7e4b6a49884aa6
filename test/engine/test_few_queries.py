"""Few queries over many keys: the compiled kernel against plain softmax in float64."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import logging
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import stream_vl_ros
from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine import Question, StreamConfig, VideoStream, few_queries, load_model
from stream_vl_ros.engine.attention import cpu_kernel, math_kernel
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER

QUESTIONS = ("What is visible now?", "What appeared before the green triangle?")

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason=f"there is no such kernel for {platform.machine()}"
)


@functools.cache
def kernels() -> dict[int, few_queries.Library]:
    """Those that this processor can run, by the floats in a register."""
    path = next(p for folder in stream_vl_ros.__path__ for p in Path(folder, "engine").glob("_few_queries*.so"))
    built, own = ctypes.CDLL(str(path)), few_queries.library()
    assert own is not None
    found = {own.lanes: own}
    if own.lanes == 16:  # such a processor runs the other as well
        attend = built.few_queries_attend_8
        attend.argtypes, attend.restype = [ctypes.c_void_p], None
        found[8] = dataclasses.replace(own, lanes=8, attend=attend)
    return found


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library is looked for again."""
    few_queries.library.cache_clear()
    yield
    few_queries.library.cache_clear()


def randn(*size: int, seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def in_a_buffer(x: Tensor, capacity: int) -> Tensor:
    """The same values as a view of a larger buffer, as in the cache, with NaN where nobody is to look."""
    buffer = torch.full((*x.shape[:2], capacity, x.shape[3]), torch.nan)
    buffer[:, :, : x.shape[2]] = x
    return buffer[:, :, : x.shape[2]]


def textbook(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    scores = query.double() @ key.double().transpose(-1, -2) * scale
    return scores.softmax(-1) @ value.double(), scores.logsumexp(-1)


def test_the_kernel_is_built_and_runs_on_the_threads_of_pytorch() -> None:
    built = few_queries.library()
    assert built is not None, "not built: make build"
    assert built.lanes in (8, 16)
    assert built.start is not None


@settings(max_examples=100, deadline=None)
@given(
    heads=st.integers(1, 4),
    queries=st.integers(1, few_queries.MAX_QUERIES),
    tokens=st.integers(1, 700) | st.sampled_from([64, 512, 1024, 2049, 5000]),
    dim=st.sampled_from(few_queries.HEAD_DIMS),
    threads=st.integers(1, 5),
    lanes=st.sampled_from([8, 16]),
    size=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_softmax_over_any_number_of_keys(
    heads: int, queries: int, tokens: int, dim: int, threads: int, lanes: int, size: float
) -> None:
    if lanes not in kernels():
        lanes = 8
    built = kernels()[lanes]
    queries = min(queries, built.most_queries(dim))
    query = size * randn(1, heads, queries, dim, seed=1)
    key, value = (in_a_buffer(randn(1, heads, tokens, dim, seed=s), tokens + 50 + 10 * s) for s in (2, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_queries, "library", lambda: built)
        out, lse = few_queries.attend(query, key, value, dim**-0.5, threads=threads)
    expected, expected_lse = textbook(query, key, value, dim**-0.5)
    assert out.shape == expected.shape and lse.shape == expected_lse.shape
    assert out.dtype == lse.dtype == torch.float32
    # Scores of several hundred are rounded to 3e-5, and what follows from them with them.
    atol = 1e-4 if size > 1 else 3e-6
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=atol)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("queries", [1, 8, 40])
@pytest.mark.parametrize("where", [0, 63, 64, 3000])
def test_one_key_that_outweighs_all_others(queries: int, where: int) -> None:
    """Scores far apart: nothing overflows, and what came before the highest one counts for nothing."""
    query, key, value = randn(1, 2, queries, 64, seed=4), randn(1, 2, 3001, 64, seed=5), randn(1, 2, 3001, 64, seed=6)
    query[..., 0], key[:, :, :, 0], key[:, :, where, 0] = 1e4, -1e4, 1e4
    assert few_queries.suits(query, key, value, False)
    out, lse = few_queries.attend(query, key, value, 1.0)
    assert torch.equal(out, value[:, :, where : where + 1].expand_as(out))
    torch.testing.assert_close(lse, textbook(query, key, value, 1.0)[1].float())


@pytest.mark.parametrize("queries", [2, 40])
def test_what_is_not_a_number_stays_that(queries: int) -> None:
    query, key, value = randn(1, 2, queries, 64, seed=4), randn(1, 2, 600, 64, seed=5), randn(1, 2, 600, 64, seed=6)
    query[0, 1, 1] = torch.nan
    out, lse = few_queries.attend(query, key, value, 1.0)
    ill = torch.zeros(1, 2, queries, dtype=torch.bool)
    ill[0, 1, 1] = True
    assert torch.equal(lse.isnan(), ill) and torch.equal(out.isnan().all(-1), ill)
    assert torch.equal(out.isnan().any(-1), ill)


def test_steps_of_decoding_take_it_and_the_rest_does_not() -> None:
    key, value = (in_a_buffer(randn(1, 2, 600, 64, seed=s), 800) for s in (7, 8))
    query = randn(1, 2, 2, 64, seed=9)
    assert few_queries.suits(query, key, value, False)
    built = few_queries.library()
    assert built is not None
    assert few_queries.suits(randn(1, 2, built.most_queries(64), 64, seed=9), key, value, False)
    assert not few_queries.suits(randn(1, 2, built.most_queries(64) + 1, 64, seed=9), key, value, False)
    assert not few_queries.suits(query, key, value, True), "a causal mask"
    assert not few_queries.suits(query, key[:, :, :511], value[:, :, :511], False), "too few keys"
    assert not few_queries.suits(query.bfloat16(), key.bfloat16(), value.bfloat16(), False)
    assert not few_queries.suits(query.expand(2, -1, -1, -1), key, value, False), "rows"
    assert not few_queries.suits(query[..., :32], key[..., :32], value[..., :32], False), "dimensions"
    scattered = key.transpose(1, 2).contiguous().transpose(1, 2)
    assert not few_queries.suits(query, scattered, value, False), "keys that do not lie one behind the other"
    assert not few_queries.suits(query, key, scattered, False)


def test_the_cpu_kernel_uses_it_and_does_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = randn(1, 2, 2, 64, seed=1), randn(1, 2, 900, 64, seed=2), randn(1, 2, 900, 64, seed=3)
    expected = math_kernel(query, key, value, 0.125, False)
    ours = cpu_kernel(query, key, value, 0.125, False)
    assert all(torch.equal(a, b) for a, b in zip(ours, few_queries.attend(query, key, value, 0.125), strict=True))
    monkeypatch.setattr(few_queries, "library", lambda: None)
    theirs = cpu_kernel(query, key, value, 0.125, False)
    for result in (ours, theirs):
        for part, right in zip(result, expected, strict=True):
            torch.testing.assert_close(part, right, rtol=1e-6, atol=2e-6)
    assert not torch.equal(ours[0], theirs[0]), "two kernels do not round alike"


@pytest.mark.usefixtures("fresh")
def test_a_library_that_cannot_be_loaded_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "engine").mkdir()
    broken = tmp_path / "engine/_few_queries.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(stream_vl_ros, "__path__", [str(tmp_path)])
    with caplog.at_level(logging.WARNING):
        assert few_queries.library() is None
    assert str(broken) in caplog.text and "slower" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_a_model_that_is_loaded_has_it_whatever_becomes_of_memory() -> None:
    load_model("random", device="cpu")
    assert few_queries.library.cache_info().currsize == 1


@pytest.mark.usefixtures("fresh")
def test_nothing_is_said_where_it_was_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream_vl_ros, "__path__", [str(tmp_path)])
    assert few_queries.library() is None
    assert not caplog.records


def test_it_does_not_count_on_the_threads_that_it_asks_for() -> None:
    """OpenMP may give fewer."""
    code = (
        "import torch\n"
        "from stream_vl_ros.engine import few_queries\n"
        "q, k, v = torch.randn(1, 3, 2, 64), torch.randn(1, 3, 5000, 64), torch.randn(1, 3, 5000, 64)\n"
        "out, lse = few_queries.attend(q, k, v, 0.125, threads=4)\n"
        "scores = q @ k.transpose(-1, -2) * 0.125\n"
        "torch.testing.assert_close(out, scores.softmax(-1) @ v)\n"
        "torch.testing.assert_close(lse, scores.logsumexp(-1))\n"
    )
    command = ["env", "OMP_THREAD_LIMIT=1", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


GUARDED = """
import ctypes, mmap, torch
from stream_vl_ros.engine import few_queries

def at_the_end_of_memory(x):
    size = -(-x.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + size), mmap.PAGESIZE, 0) == 0
    copy = torch.frombuffer(memory, dtype=x.dtype, count=x.numel(), offset=size - x.nbytes).view(x.shape)
    return copy.copy_(x)

for dim in few_queries.HEAD_DIMS:
    for queries in (1, 3, 40):
        for tokens in (513, 575, 577):
            q, k, v = (at_the_end_of_memory(torch.randn(1, 1, n, dim)) for n in (queries, tokens, tokens))
            out, lse = few_queries.attend(q, k, v, 0.125)
            torch.testing.assert_close(out, (q @ k.transpose(-1, -2) * 0.125).softmax(-1) @ v)
print("done")
"""


def test_it_reads_nothing_behind_the_last_key() -> None:
    """There the memory ends, and reading on would end the process."""
    done = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often the kernel was used, by queries."""
    counted: Counter[int] = Counter()
    attend = few_queries.attend

    def counting(query: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        counted[query.shape[2]] += 1
        return attend(query, *args, **kwargs)

    monkeypatch.setattr(few_queries, "attend", counting)
    return counted


def test_answers_about_a_long_video_are_native(calls: Counter[int]) -> None:
    """1,500 tokens of video: the question, each step of an answer, and steps of several answers go through it."""
    frames = np.concatenate([demo_clip()[0]] * 2)
    stamps = [i / 2 for i in range(len(frames))]
    loaded, native = load_model("embedded", device="cpu"), NativeModel(str(EMBEDDED_FOLDER))
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(frames, stamps)
    assert stream.cache.length > 1500
    for question in QUESTIONS:
        inputs = native.inputs(native.prompt([user_turn(question)]), [frames], 2.0)
        expected = native.generate(inputs, 12, text_base="trained")
        with stream.fork() as fork:
            logits = fork.feed(stream.pieces.ask.tokens(loaded.tokenizer, question=question))
        assert (logits - expected.logits).abs().max() < 3e-5
        calls.clear()
        assert stream.ask(question, max_new_tokens=12).token_ids == expected.token_ids
        assert calls[2] >= 8 * (len(expected.token_ids) - 1), "a call for each layer and step"
        assert any(n > 16 for n in calls), "the question itself"
    calls.clear()
    alone = [stream.ask(q, max_new_tokens=12).token_ids for q in QUESTIONS]
    many = stream.ask_many(Question(q, max_new_tokens=12) for q in QUESTIONS)
    assert [a.token_ids for a in many] == alone
    assert calls[2 * len(QUESTIONS)] >= 8, "answers side by side"
