"""Positions that are moved back: keys as the model would compute them there, and a stream that stays in range."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from stream_vl_ros.engine import StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.positions import text_positions
from stream_vl_ros.engine.random_checkpoint import random_checkpoint

QUESTION = "What happened before the red car?"
PER_PAIR = 6


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(6).integers(0, 256, (300, 56, 84, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen2_vl"])
def model(request, tmp_path_factory):
    folder = random_checkpoint(5, model_type=request.param, folder=tmp_path_factory.mktemp("checkpoint"))
    return load_model(str(folder), device="cpu", dtype="float32")


def make(model, rule: str = "window", **config) -> VideoStream:
    settings = {"target_fps": 0, "eviction": rule, "budget_tokens": 100, "max_position": 120} | config
    return VideoStream(model, StreamConfig(**settings))


def watch(stream: VideoStream, video: np.ndarray, start: int, end: int) -> None:
    stream.append(video[start:end], [i / 2 for i in range(start, end)])


@pytest.mark.parametrize("deltas", [(0, 0, 0), (-7, 0, 0), (-100, -100, -100), (33, -5, 2), (-3000, -3000, -3000)])
def test_rotated_keys_are_those_computed_at_the_new_positions(model, deltas):
    """Of all layers, from the same hidden states; transformers' attention layer is the reference."""
    language = model.native.model.language_model
    generator = torch.Generator().manual_seed(1)
    layer = language.layers[0].self_attn
    hidden = torch.randn(1, 12, model.native.config.text_config.hidden_size, generator=generator)
    start = torch.arange(12).expand(3, -1) + 4000

    def keys(positions: torch.Tensor) -> torch.Tensor:
        cache = VideoStream(model).cache
        cache.clear()
        with torch.inference_mode(), cache.extend(12):
            layer(
                hidden_states=hidden,
                position_embeddings=language.rotary_emb(hidden, positions[:, None]),
                attention_mask=None,
                past_key_values=cache,
            )
        return cache.layer_tokens(0)[0]

    shift = torch.tensor(deltas)[:, None]
    heads = model.adapter.cache_shape.kv_heads
    rotated = model.adapter.rotate(keys(start), shift[:, None].expand(3, heads, 12))
    assert (rotated - keys(start + shift)).abs().max() < 2e-3  # angles of thousands of radians in float32
    if deltas == (0, 0, 0):
        assert torch.equal(rotated, keys(start))


@pytest.mark.parametrize("rule", ["window", "importance"])
def test_positions_stay_in_range_and_move_seldom(model, video, rule):
    stream = make(model, rule)
    highest, tokens = 0, 0
    for i in range(0, 300, 4):
        watch(stream, video, i, i + 4)
        highest = max(highest, stream.state.segment.last_time)
        tokens = max(tokens, stream.state.segment.text_start(True))
    limit, floor = stream._keeper.position_limit, len(stream.pieces.start.tokens(model.tokenizer))
    assert limit == 90
    assert highest <= limit
    assert stream.evicted.rebases >= 1
    positions = 300 if model.adapter.tokens_per_second else 150
    # Each time a quarter of the range at least.
    assert stream.evicted.rebases <= 1 + (positions - limit) / ((limit - floor) // 4)
    assert tokens <= 120


def test_what_the_range_cannot_hold_is_forgotten_first(model, video):
    stream = make(model, "importance")
    fell = 0
    for i in range(0, 300, 4):
        times, rebases = stream.evicted.times, stream.evicted.rebases
        watch(stream, video, i, i + 4)
        ledger = stream.state.ledger
        below = [b for b in ledger.survivors.blocks if b.position < ledger.floor] if ledger.survivors else []
        fell += bool(below)
        if stream.evicted.times > times and stream.evicted.rebases == rebases:
            assert not below
        if ledger.survivors is not None:
            assert min(int(p.min()) for p in ledger.survivors.positions) >= ledger.floor
    assert fell


def test_without_a_rule_positions_are_never_touched(model, video):
    stream = VideoStream(model, StreamConfig(target_fps=0, max_position=60))
    watch(stream, video, 0, 100)
    assert stream.evicted.rebases == 0
    assert stream.state.segment.shift == 0


def test_a_window_that_was_moved_is_what_the_first_layer_would_compute(model, video):
    """Its keys depend on tokens and positions alone: those of a video that begins with the oldest frame held."""
    stream = make(model)
    at = 0
    while not stream.evicted.rebases:
        watch(stream, video, at, at + 4)
        at += 4
    oldest = stream.evicted.frames
    begin, state = len(stream.pieces.start.tokens(model.tokenizer)), stream.state
    fresh = VideoStream(model, StreamConfig(target_fps=0))
    fresh.append(video[oldest:at], [i / 2 for i in range(oldest, at)])
    fresh.flush()
    moved = stream.cache.layer_tokens(0)
    expected = fresh.cache.layer_tokens(0)
    first = state.ledger.loose[0].position
    # Chunks that came after the move were not in it; the oldest may have been forgotten since.
    deltas = torch.zeros(3, moved[0].shape[1], stream.cache.length, dtype=torch.int64)
    deltas[0, :, begin:] = begin - first
    aligned = model.adapter.rotate(moved[0], deltas)
    assert (aligned - expected[0]).abs().max() < 1e-4
    assert (moved[1] - expected[1]).abs().max() < 1e-5
    assert state.segment.last_time - first == fresh.state.segment.last_time - begin


def test_a_uniform_move_changes_no_answer(model, video):
    """Everything, sink included, by the same: attention sees differences only."""
    stream = VideoStream(model, StreamConfig(target_fps=0))
    watch(stream, video, 0, 20)
    with stream.fork() as fork:
        ids = fork.ask.tokens(model.tokenizer, question=QUESTION)
        expected = fork.feed(ids)
    stream._waiting.forget_tip()

    def shifted(layer: int, keys: torch.Tensor, values: torch.Tensor):
        return model.adapter.rotate(keys, torch.full((3, keys.shape[1], keys.shape[2]), -7)), values.clone()

    with torch.inference_mode():
        stream.cache.rewrite(stream.cache.length, shifted)
        fork = stream.cache.fork()
        start = stream.state.segment.text_start(True) - 7
        embeds = model.adapter.embed_text(torch.tensor([ids]))
        got = model.adapter.logits(model.adapter.forward(embeds, text_positions(start, len(ids)), fork)[0, -1])
    assert (got - expected).abs().max() < 1e-4


@pytest.mark.parametrize("rule", ["window", "importance"])
@pytest.mark.parametrize("sink_frames", [0, 4])
def test_a_later_span_that_is_alone_behind_the_sink_is_as_a_first_one(model, video, rule, sink_frames):
    """Its rows and columns come to the sink too, and stay there: they do not drift away however long it lasts."""
    settings = {"budget_tokens": 120, "max_position": 120, "sink_frames": sink_frames}
    stream, single = (make(model, rule, **settings) for _ in range(2))
    stream.append(video[:8], [1000 + i / 2 for i in range(8)])
    single.append(video[:8], [i / 2 for i in range(8)])
    begin = len(stream.pieces.start.tokens(model.tokenizer))
    rebases, behind_sink = 0, 0
    for i in range(8, 300, 4):
        stream.append(video[i : i + 4], [(i + j) / 2 for j in range(4)])
        single.append(video[i : i + 4], [(i + j) / 2 for j in range(4)])
        if stream.evicted.rebases > rebases and i > 100:
            rebases, ledger = stream.evicted.rebases, stream.state.ledger
            assert stream.state.segment.start == begin
            assert {b.anchor for b in ledger.loose} == {begin}
            behind_sink += 1
    assert behind_sink >= (2 if model.adapter.tokens_per_second else 1)
    recent = stream.state.ledger.loose[-4:]
    count = sum(b.tokens for b in recent)
    # The first layer's keys depend on tokens and positions alone.
    ours, theirs = (s.cache.layer_tokens(0)[0][:, :, -count:] for s in (stream, single))
    back = single.state.ledger.loose[-1].position - recent[-1].position
    deltas = torch.zeros(3, ours.shape[1], count, dtype=torch.int64)
    deltas[0] = back
    assert (model.adapter.rotate(ours, deltas) - theirs).abs().max() < 1e-4


def test_rows_and_columns_are_where_the_ledger_says(model, video):
    """Short spans and long ones: every block of the present equals one computed at its place from scratch."""
    stream = make(model, budget_tokens=160, max_position=120)
    shown = 0
    for number, length in enumerate([20, 4, 8, 60, 4, 4, 90, 16]):
        for i in range(length):
            stream.append(video[shown : shown + 1], [i / 2 - 1000 * number])
            shown += 1
    stream.flush()
    assert stream.evicted.rebases >= 2
    assert len({b.anchor for b in stream.state.ledger.loose if b.is_video}) >= 2
    at = sum(b.tokens for b in stream.state.ledger.pinned)
    frame = shown - sum(b.frames for b in stream.state.ledger.loose)
    rows, columns = model.adapter.geometry.grid(*stream.frame_size)
    for block in stream.state.ledger.loose:
        if block.is_video:
            fresh = VideoStream(model, StreamConfig(target_fps=0))
            begin = fresh.cache.length
            fresh.append(video[frame : frame + 2], [0.0, 0.5])
            fresh.flush()
            place = torch.tensor([block.anchor - begin] * 2)[:, None].expand(2, rows * columns)
            deltas = torch.cat((torch.full((1, rows * columns), block.position - begin), place))
            keys = fresh.cache.layer_tokens(0)[0][:, :, begin:]
            expected = model.adapter.rotate(keys, deltas[:, None].expand(-1, keys.shape[1], -1))
            got = stream.cache.layer_tokens(0)[0][:, :, at : at + block.tokens]
            assert (got - expected).abs().max() < 1e-3, block
        at, frame = at + block.tokens, frame + block.frames
    assert (at, frame) == (stream.cache.length, shown)


@pytest.mark.parametrize("cut", list(itertools.product([1, 3], [0, 1, 3])))
def test_time_goes_on_exactly_after_a_move(model, video, cut):
    """The floor is taken on the product since the segment's start, moved or not."""
    if model.adapter.tokens_per_second is None:
        pytest.skip("Qwen2-VL counts frames and knows no cadence")
    step, offset = cut[0] * 0.37, cut[1] * 0.11
    stamps = [offset + step * i for i in range(300)]
    stream, plain = make(model), VideoStream(model, StreamConfig(target_fps=0))
    for i in range(0, 120, 4):
        for one in (stream, plain):
            one.append(video[i : i + 4], stamps[i : i + 4])
        back = plain.state.segment.last_time - stream.state.segment.last_time
        assert back == stream.state.segment.shift
    assert stream.evicted.rebases


@pytest.mark.parametrize("rule", ["window", "importance"])
@pytest.mark.parametrize("text_base", ["trained", "transformers"])
def test_remembered_turns_move_along(model, video, rule, text_base):
    stream = make(model, rule, budget_tokens=200, text_base=text_base, max_position=320)
    for i in range(0, 288, 12):
        watch(stream, video, i, i + 12)
        stream.remember("What was that?", "a red car")
        blocks = [b for b in stream.state.ledger.blocks if not b.pinned]
        # In the order of the cache, no text comes before the video in front of it.
        for one, other in itertools.pairwise(blocks if text_base == "trained" else []):
            assert other.position >= one.position
        assert stream.ask(QUESTION, max_new_tokens=2).token_ids is not None
        assert stream.state.ledger.tokens == stream.cache.length
    if text_base == "trained":
        assert stream.evicted.rebases
        assert stream.state.position <= 320
