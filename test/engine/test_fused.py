"""The fused model against transformers' modules, on the same weights: by its definitions on the CPU, whole on CUDA."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stream_vl_ros.engine import LoadedModel, Question, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.batch import DecodeBatch
from stream_vl_ros.engine.batch_cache import StepRows, plan_reads
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.fused import FusedModel, why_not
from stream_vl_ros.engine.fused.attention import StepShape
from stream_vl_ros.engine.fused.graphs import StepGraphs
from stream_vl_ros.engine.fused.language import FusedLanguage
from stream_vl_ros.engine.fused.plan import StepPlan, split_evenly
from stream_vl_ros.engine.fused.vision import FusedVision
from stream_vl_ros.engine.fused.vision_graphs import VisionGraphs
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.engine.segments import Segment, addresses

HAS_CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason="needs a CUDA device")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[LoadedModel, LoadedModel]:
    """Two loads of one checkpoint in float32: with the kernels where they run, and without."""
    return loaded_twice(random_checkpoint(3, folder=tmp_path_factory.mktemp("checkpoint")))


def loaded_twice(folder: Path) -> tuple[LoadedModel, LoadedModel]:
    fused, plain = (load_model(str(folder), device="auto", dtype="float32") for _ in range(2))
    plain.adapter.fused = None
    return fused, plain


def randn(*size: int, seed: int, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(like)


@torch.inference_mode()
@pytest.mark.parametrize("tokens", [1, 16, 40])
def test_language(pair, tokens):
    adapter = pair[1].adapter
    language = FusedLanguage(copy.deepcopy(pair[1].native))
    embeds = randn(1, tokens, 128, seed=tokens, like=pair[1].native.lm_head.weight)
    positions = torch.stack([torch.arange(tokens) + axis for axis in (9, 3, 5)])[:, None]
    prefix = randn(1, 5, 128, seed=0, like=embeds)
    results = []
    for forward in (adapter.forward, language.forward):
        cache = KVCache(adapter.cache_shape)
        forward(prefix, torch.arange(5).expand(3, 1, -1).to(embeds.device), cache)
        results.append((forward(embeds, positions.to(embeds.device), cache), *cache.layer_tokens(3)))
    assert all((a - b).abs().max() < 1e-4 for a, b in zip(*results, strict=True))
    assert results[0][0].abs().max() > 1


@torch.inference_mode()
@pytest.mark.parametrize("grid", [(2, 8, 8), (1, 4, 4), (3, 18, 22)])
def test_vision(pair, grid, monkeypatch):
    # Pictures are embedded by a convolution there, which cuDNN rounds to tf32 unless told otherwise.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    adapter = pair[1].adapter
    vision = FusedVision(copy.deepcopy(pair[1].native.model.visual))
    patches = randn(grid[0] * grid[1] * grid[2], 1176, seed=1, like=pair[1].native.lm_head.weight)
    expected = adapter.embed_video(patches, torch.tensor([grid]))
    for _ in range(2):  # the second time with a layout that is known
        assert (vision(patches, torch.tensor([grid])) - expected).abs().max() < 1e-4


@torch.inference_mode()
def test_joined_weights_go_on_working_in_their_modules(pair):
    model = copy.deepcopy(pair[1].native)
    ids = torch.arange(3, 40)[None].to(model.device)
    before = model(ids).logits
    layers = model.model.language_model.layers
    numbers = sum(p.untyped_storage().nbytes() for p in layers.parameters())
    FusedLanguage(model)
    FusedVision(model.model.visual)
    assert torch.equal(model(ids).logits, before)
    storages = {s.data_ptr(): s.nbytes() for s in (p.untyped_storage() for p in layers.parameters())}
    assert sum(storages.values()) == numbers
    assert "q_proj" in next(n for n, p in model.named_parameters() if "q_proj" in n)


@pytest.mark.parametrize("splits", [1, 3, 8, 64])
@pytest.mark.parametrize("lengths", [[], [0], [1], [64], [14_400], [0, 5000, 3, 0, 700], [64] * 8])
def test_shared_tokens_are_split_evenly(splits, lengths):
    items = split_evenly(lengths, splits)
    present = [n for n in lengths if n]
    if len(present) > splits:
        assert items is None
        return
    covered = [(i, t) for i, start, n in items for t in range(start, start + n)]
    assert covered == [(i, t) for i, n in enumerate(lengths) for t in range(n)]
    assert len(items) <= splits
    if present and splits > len(present):
        assert max(n for *_, n in items) <= sum(present) / (splits - len(present)) + 64


def test_the_table_follows_buffers_that_come_again_at_the_same_place():
    memory = torch.randn(2, 4096)
    plan = StepPlan(StepShape(2, 1, 2, 1, 16, 1), torch.device("cpu"))

    def pair(capacity: int, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(m[: rows * capacity * 16].view(rows, 1, capacity, 16) for m in memory)

    for capacity in (64, 100, 64):
        own, shared = pair(capacity, 2), Segment((tuple(t[:, :, :40] for t in pair(capacity)),), 40)
        where = StepRows(plan_reads([(shared,), (shared,)]), [own], (0, 1), (3, 5), addresses([own]))
        plan.write([[7], [8]], [50, 60], where)
        views = {name: view.tolist() for name, view in plan.views.items()}
        assert views["own"] == [capacity * 16, capacity * 16, *(t.data_ptr() for t in own)]
        assert views["ranges"][0] == [capacity * 16, *(t.data_ptr() for t in pair(capacity))]
        assert (views["ids"], views["positions"], views["past"]) == ([[7], [8]], [[50], [60]], [3, 5])
        assert [item for item in views["items"] if item[2]] == [[0, 0, 40]]
        assert views["readers"][0] == [1, 1]


def test_nothing_is_fused_without_a_gpu(loaded):
    assert loaded.adapter.fused is None
    assert FusedModel.of(loaded.native) is None


# --- on CUDA ------------------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.skipif(HAS_CUDA, reason="here graphs can be captured")
def test_what_cannot_be_captured_runs_without_a_graph(tmp_path, caplog):
    """There is no GPU to capture on: the tower says so once, and goes on as before."""
    model = load_model(str(random_checkpoint(folder=tmp_path)), device="cpu", dtype="bfloat16")
    tower = FusedVision(model.native.model.visual)
    graphs, grid = VisionGraphs(tower, None), torch.tensor([[2, 8, 8]])
    patches = randn(128, 1176, seed=1, like=torch.zeros((), dtype=torch.bfloat16))
    for _ in range(4):
        assert torch.equal(graphs(patches, grid), tower(patches, grid))
    assert caplog.text.count("no graph for pictures of 2x8x8 patches") == 1


def watched(model: LoadedModel, frames: int = 16, seed: int = 5) -> VideoStream:
    stream = VideoStream(model, StreamConfig(target_fps=0))
    video = np.random.default_rng(seed).integers(0, 256, (frames, 90, 120, 3), dtype=np.uint8)
    stream.append(video, [i / 2 for i in range(frames)])
    return stream


@pytest.mark.gpu
@needs_cuda
def test_the_model_can_be_fused(pair):
    assert why_not(pair[0].native) == ""
    assert pair[0].adapter.fused is not None


def test_a_gpu_that_is_not_the_first_runs_the_modules(monkeypatch, caplog):
    """Kernels would be launched on the first one."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    second = SimpleNamespace(lm_head=SimpleNamespace(weight=SimpleNamespace(device=torch.device("cuda:1"))))
    assert FusedModel.of(second) is None
    assert "CUDA_VISIBLE_DEVICES=1 with device cuda" in caplog.text


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("frames", [4, 15, 16, 40])
def test_answers_are_those_of_the_modules(pair, frames):
    """Whole chunks, and frames that still wait: a fork with two places in memory."""
    ours, theirs = (watched(model, frames) for model in pair)
    for text in ("What is it?", "Is there anything red, blue, green or yellow in the picture at this moment? " * 3):
        tokens = [s.ask(text, max_new_tokens=24).token_ids for s in (ours, theirs)]
        assert tokens[0] == tokens[1]
        scores = [s.ask(text, ("yes", "no, never")).scores for s in (ours, theirs)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


@pytest.mark.gpu
@needs_cuda
def test_qwen2_vl_keeps_its_own_tower(tmp_path):
    models = loaded_twice(random_checkpoint(3, model_type="qwen2_vl", folder=tmp_path))
    assert models[0].adapter.fused is not None
    assert models[0].adapter.fused.vision is None
    answers = [watched(model, 15).ask("What is it?", max_new_tokens=24).token_ids for model in models]
    assert answers[0] == answers[1]


@pytest.mark.gpu
@needs_cuda
def test_a_graph_outlives_chunks_resets_and_buffers_that_move(pair):
    fused, plain = pair
    ours, theirs = (VideoStream(m, StreamConfig(target_fps=0, initial_capacity=64)) for m in (fused, plain))
    graphs = fused.adapter.fused._steps
    assert isinstance(graphs, StepGraphs)
    captured = None
    for round_ in range(6):
        video = np.random.default_rng(round_).integers(0, 256, (8, 90, 120, 3), dtype=np.uint8)
        if round_ == 4:
            ours.reset()
            theirs.reset()
        for stream in (ours, theirs):
            stream.append(video, [10 * round_ + i / 2 for i in range(8)])
        answers = [s.ask("What is it?", max_new_tokens=12).token_ids for s in (ours, theirs)]
        assert answers[0] == answers[1]
        if captured is None:
            captured = dict(graphs._graphs)
    assert graphs._graphs == captured


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("count", [2, 5, 16, 20])
def test_many_at_different_moments(pair, count):
    tokens = []
    for model in pair:
        stream = watched(model, 4)
        batch, running = DecodeBatch(model), []
        for i in range(count):
            video = np.random.default_rng(i).integers(0, 256, (2, 90, 120, 3), dtype=np.uint8)
            stream.append(video, [100 + i, 100.5 + i])
            running.append(stream.start(Question(f"Why? {'Really? ' * (i % 4)}", max_new_tokens=4 + i % 7)))
            running[-1].prefill()
            if not running[-1].done:
                batch.add(running[-1])
            if i % 3 == 0 and len(batch):
                assert batch.step() == []
        while len(batch):
            assert batch.step() == []
        tokens.append([g.answer().token_ids for g in running])
    assert tokens[0] == tokens[1]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_as_far_from_float32_as_the_modules_are(tmp_path_factory, pair, dtype):
    folder = str(random_checkpoint(3, folder=tmp_path_factory.mktemp("checkpoint")))
    fused, plain = (load_model(folder, device="cuda", dtype=dtype) for _ in range(2))
    plain.adapter.fused = None

    def logits(model: LoadedModel) -> torch.Tensor:
        with watched(model, 32).fork() as fork:
            return fork.feed(fork.ask.tokens(model.tokenizer, question="What is it?"))

    exact = logits(pair[1])
    ours, theirs = ((logits(m) - exact).norm() / exact.norm() for m in (fused, plain))
    assert ours < 1.5 * theirs + 1e-3


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_captured_chunk_is_the_chunk(tmp_path_factory, dtype):
    """Over a buffer that grows and moves, after a reset, and with chunks of another size in between."""
    folder = str(random_checkpoint(3, folder=tmp_path_factory.mktemp("checkpoint")))
    fused, eager = (load_model(folder, device="cuda", dtype=dtype) for _ in range(2))
    graphs = fused.adapter.fused._reads
    eager.adapter.fused._reads.read = lambda *_: False
    streams = [VideoStream(m, StreamConfig(target_fps=0, chunk_frames=16, initial_capacity=64)) for m in (fused, eager)]
    for round_ in range(8):
        video = np.random.default_rng(round_).integers(0, 256, (16, 90, 120, 3), dtype=np.uint8)
        for stream in streams:
            if round_ == 5:
                stream.reset()
            count = 12 if round_ in (2, 3, 6) else 16
            for i in range(count):
                stream.offer(video[i], round((100 * round_ + i / 2) * 1e9))
            assert stream.flush().frames == count
            if round_ == 4:  # half of the tokens are shared from here on
                stream.restore(stream.snapshot())
        ours, theirs = (s.cache.layer_tokens(3) for s in streams)
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).float().norm() < 2e-2 * b.float().norm(), round_
        answers = [s.ask("What is it?", max_new_tokens=1).token_ids for s in streams]
        assert len(answers[0]) == len(answers[1])
    assert len(list(graphs._graphs)) == 2


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_waiting_frames_read_by_graphs_are_those_read_layer_by_layer(tmp_path_factory, dtype):
    """Pieces on a fork, of a stream that goes on from a memory, so that tokens lie in three places."""
    folder = str(random_checkpoint(3, folder=tmp_path_factory.mktemp("checkpoint")))
    fused, eager = (load_model(folder, device="cuda", dtype=dtype) for _ in range(2))
    runs: list[int] = []
    read = fused.adapter.fused._reads.read
    fused.adapter.fused._reads.read = lambda *a: runs.append(read(*a)) or runs[-1]
    eager.adapter.fused._reads.read = lambda *_: False
    streams = [VideoStream(m, StreamConfig(target_fps=0, chunk_frames=6, max_pixels=560**2)) for m in (fused, eager)]
    video = np.random.default_rng(1).integers(0, 256, (15, 560, 560, 3), dtype=np.uint8)
    for stream in streams:
        stream.append(video[:6], [i / 2 for i in range(6)])
        stream.restore(stream.snapshot())
        stream.append(video[6:], [i / 2 for i in range(6, 15)])
    scores = []
    for stream in streams:
        with stream.fork() as fork:
            scores.append((fork.cache.layer_tokens(3)[0], fork.feed([5, 6, 7])))
    assert runs and all(runs), "every read was a graph's"
    for a, b in zip(*scores, strict=True):
        assert (a - b).float().norm() < 3e-2 * b.float().norm()


@pytest.mark.gpu
@needs_cuda
def test_questions_change_no_bit_of_a_stream_on_a_gpu(tmp_path_factory):
    """Of large pictures, whose pairs go through the vision tower before their chunk is full."""
    folder = str(random_checkpoint(3, folder=tmp_path_factory.mktemp("checkpoint")))
    model = load_model(folder, device="cuda", dtype="bfloat16")
    quiet, busy = (VideoStream(model, StreamConfig(target_fps=0, max_pixels=560**2)) for _ in range(2))
    video = np.random.default_rng(2).integers(0, 256, (16, 560, 560, 3), dtype=np.uint8)
    for i in range(16):
        for stream in (quiet, busy):
            stream.append(video[i : i + 1], [i / 2])
        busy.ask("What is it?", max_new_tokens=20)
    assert model.adapter.fused._steps.found_ahead > 16
    assert busy.signature() == quiet.signature()
