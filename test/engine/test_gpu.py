"""The same promises on CUDA: skipped where there is none."""

from __future__ import annotations

import functools
import time

import numpy as np
import pytest
import torch

from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine import (
    EngineRunner,
    Question,
    StreamConfig,
    VideoStream,
    Watch,
    Watches,
    WatchEvent,
    load_model,
)
from stream_vl_ros.engine.accounts import Accounts
from stream_vl_ros.engine.attention import cuda_efficient_kernel, cuda_flash_kernel, math_kernel
from stream_vl_ros.engine.batch import DecodeBatch
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.engine.runner_state import Shared
from stream_vl_ros.engine.stopwatch import stopwatch
from stream_vl_ros.engine.stream_records import ChunkReport
from stream_vl_ros.engine.units import MIB

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

QUESTION = "What happened before the red car?"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("kernel", "dtype", "tolerance"),
    [
        (cuda_flash_kernel, torch.bfloat16, 2e-2),
        (cuda_flash_kernel, torch.float16, 3e-3),
        (cuda_efficient_kernel, torch.float32, 1e-4),
        (cuda_efficient_kernel, torch.bfloat16, 2e-2),
    ],
)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 777), (33, 33), (48, 2000)])
def test_kernels_match_the_definition(kernel, dtype, tolerance, queries, keys, causal):
    if causal and queries != keys:
        pytest.skip("causal attention is only asked for among the new tokens")
    generator = torch.Generator("cuda").manual_seed(0)
    q = torch.randn(2, 4, queries, 64, device="cuda", dtype=dtype, generator=generator)
    k, v = (torch.randn(2, 4, keys, 64, device="cuda", dtype=dtype, generator=generator) for _ in range(2))
    out, lse = kernel(q, k, v, 0.125, causal)
    expected_out, expected_lse = math_kernel(q, k, v, 0.125, causal)
    assert (out - expected_out).abs().max() < tolerance
    assert (lse - expected_lse).abs().max() < tolerance


@pytest.mark.parametrize("chunk_frames", [2, 4, 64])
def test_float32_answers_are_native(tmp_path_factory, chunk_frames):
    folder = str(random_checkpoint(3, folder=tmp_path_factory.mktemp("checkpoint")))
    video = np.random.default_rng(5).integers(0, 256, (13, 90, 120, 3), dtype=np.uint8)
    native = NativeModel(folder, device="cuda")
    expected = native.generate(
        native.inputs(native.prompt([user_turn(QUESTION)]), [video], 2.0), 12, text_base="trained"
    )
    stream = VideoStream(
        load_model(folder, device="cuda", dtype="float32"), StreamConfig(target_fps=0, chunk_frames=chunk_frames)
    )
    stream.append(video, [i / 2 for i in range(13)])
    signature = stream.signature()
    with stream.fork() as fork:
        logits = fork.feed(stream.pieces.ask.tokens(stream.model.tokenizer, question=QUESTION)).cpu()
    assert (logits - expected.logits).abs().max() < 1e-3
    assert stream.ask(QUESTION, max_new_tokens=12).token_ids == expected.token_ids
    assert stream.ask(QUESTION, ("red", "a blue square")).scores
    assert stream.signature() == signature


def test_answers_side_by_side_are_those_alone(tmp_path_factory):
    """In float32: in half precision a near tie may go either way, as it may between any two batch sizes."""
    folder = str(random_checkpoint(3, folder=tmp_path_factory.mktemp("checkpoint")))
    model = load_model(folder, device="cuda", dtype="float32")
    stream = VideoStream(model, StreamConfig(target_fps=0))
    video = np.random.default_rng(5).integers(0, 256, (40, 90, 120, 3), dtype=np.uint8)
    batch, together, alone = DecodeBatch(model), [], []
    for i in range(16):
        stream.append(video[2 * i : 2 * i + 2], [i, i + 0.5])
        question = f"{QUESTION} {'Really? ' * (i % 4)}"
        alone.append(stream.ask(question, max_new_tokens=4 + i % 7).token_ids)
        together.append(stream.start(Question(question, max_new_tokens=4 + i % 7)))
        together[-1].prefill()
        if not together[-1].done:
            batch.add(together[-1])
    while len(batch):
        assert batch.step() == []
    assert [g.answer().token_ids for g in together] == alone
    assert len(set(alone)) > 8


def test_standing_questions_have_the_scores_of_each_alone():
    stream = VideoStream(load_model("embedded", device="cuda", dtype="float32"))
    stream.append(*demo_clip())
    watches = [Watch(f"w{i}", f"Is there a {thing}?") for i, thing in enumerate(("blue square", "circle", "man " * 9))]
    events: list[WatchEvent] = []
    with EngineRunner(stream, watches=Watches(watches, on_event=events.append)) as runner:
        end = time.monotonic() + 60
        while not all(r.scores or r.error for r in runner.watches()):
            assert time.monotonic() < end
            time.sleep(0.01)
        reports = runner.watches()
    for report in reports:
        alone = stream.ask_choice(report.watch.question, report.watch.options, normalise=False)
        assert report.scores == pytest.approx(alone.scores, abs=1e-3)


def test_a_gpu_that_is_full_refuses_with_the_numbers_and_goes_on():
    model = load_model("embedded", device="cuda", dtype="bfloat16")
    frames = np.random.default_rng(1).integers(0, 256, (8, 112, 112, 3), dtype=np.uint8)
    stream = VideoStream(model, StreamConfig(target_fps=0, initial_capacity=64))
    with EngineRunner(stream) as runner:
        for i in range(4):
            runner.push(frames[i], int(i * 5e8))
        before = runner.ask(Question("What is visible now?")).result(60)
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 8 * MIB) / total)
        try:
            stream.cache._initial_capacity = 200_000  # 1.6 GB the next time that it grows
            for i in range(4, 8):
                runner.push(frames[i], int(i * 5e8))
            runner.call(lambda s: s.flush()).result(60)
            status = runner.status()
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        after = runner.ask(Question("What is visible now?")).result(60)
        stream.cache._initial_capacity = 64
        runner.push(frames[4], int(4 * 5e8))
    assert status.frames.drops == {"out_of_memory": 4}
    assert "MiB free" in status.problem
    assert status.frames.balanced
    assert after.token_ids == before.token_ids


@functools.cache
def cycles_a_second() -> float:
    """Of the GPU's clock. Waits for the GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(1_000_000)
    start.record()
    torch.cuda._sleep(100_000_000)
    end.record()
    end.synchronize()
    return 100_000_000 / (start.elapsed_time(end) / 1e3)


def busy(seconds: float) -> None:
    """Keep the GPU at work for about so long; returns at once if `cycles_a_second` was asked for before."""
    torch.cuda._sleep(int(seconds * cycles_a_second()))


def test_work_takes_as_long_as_the_gpu_is_at_it():
    cycles_a_second()
    busy(0.2)  # of somebody else, before
    watch = stopwatch(torch.device("cuda"))
    busy(0.2)
    started = time.perf_counter()
    watch.stop()
    assert not watch.done and time.perf_counter() - started < 0.05
    assert 0.15 < watch.seconds < 0.4
    assert watch.done and time.perf_counter() - started > 0.1, "asking for it waits"


def test_a_chunk_that_the_gpu_is_still_at_is_counted_and_not_timed_yet():
    accounts = Accounts(Shared(), VideoStream(load_model("embedded", device="cuda")))
    cycles_a_second()
    torch.cuda.synchronize()
    for at_work in (0.2, 0.0):
        watch = stopwatch(torch.device("cuda"))
        busy(at_work)
        watch.stop()
        accounts.chunk(ChunkReport(4, 100, watch))
    chunks = accounts.status(0).chunks
    assert (chunks.count, chunks.measured, chunks.total, chunks.mean) == (2, 0, 0.0, 0.0)
    torch.cuda.synchronize()
    chunks = accounts.status(0).chunks
    assert (chunks.count, chunks.measured) == (2, 2)
    assert 0.15 < chunks.total < 0.4 and chunks.last < 0.05 and chunks.mean == chunks.total / 2


def test_what_the_gpu_did_before_is_not_the_time_of_a_chunk():
    frames, _ = demo_clip()
    stream = VideoStream(load_model("embedded", device="cuda"), StreamConfig(chunk_frames=4))
    with EngineRunner(stream) as runner:
        for i, frame in enumerate(frames[:12]):
            if i == 8:
                runner.call(lambda _: busy(0.4)).result(60)
            runner.push(frame, i * 500_000_000)
        runner.call(lambda _: None).result(60)
        torch.cuda.synchronize()
        chunks = runner.status().chunks
        assert (chunks.count, chunks.measured) == (3, 3) and 0 < chunks.last < 0.3
