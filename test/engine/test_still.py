"""Pieces of picture that did not change are not read again, and what is read keeps its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.engine import LoadedModel, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.world.render import render
from stream_vl_ros.world.scene import Scene, Track

QUESTION = "What happened before the red car?"
TOLERANCE = 1e-4
ROWS, COLUMNS = 2, 3
SIDE = 28  # pixels of a piece


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(random_checkpoint(5, folder=tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def model(folder) -> LoadedModel:
    return load_model(folder, device="cpu", dtype="float32")


@pytest.fixture
def tower(model, monkeypatch) -> list[int]:
    """Pairs of pictures that pass through the vision tower, call by call."""
    calls: list[int] = []
    embed = model.adapter.embed_video

    def counted(patches, grid):
        calls.append(int(grid[0, 0]))
        return embed(patches, grid)

    monkeypatch.setattr(model.adapter, "embed_video", counted)
    return calls


def scene(changes: dict[int, list[tuple[int, int]]], frames: int = 12) -> np.ndarray:
    """Noise that stays, except in the pieces (row, column) that become new at some frames."""
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (ROWS * SIDE, COLUMNS * SIDE, 3), dtype=np.uint8)
    out = []
    for i in range(frames):
        for row, column in changes.get(i, []):
            area = picture[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            area[:] = rng.integers(0, 256, area.shape, dtype=np.uint8)
        out.append(picture.copy())
    return np.stack(out)


def stream_of(model: LoadedModel, video: np.ndarray, **config) -> VideoStream:
    stream = VideoStream(model, StreamConfig(**{"target_fps": 0, "still_threshold": 4.0} | config))
    stream.append(video, [i / 2 for i in range(len(video))])
    return stream


def opening(stream: VideoStream) -> int:
    return len(stream.pieces.start.tokens(stream.model.tokenizer))


def first_logits(stream: VideoStream) -> torch.Tensor:
    with stream.fork() as fork:
        return fork.feed(stream.pieces.ask.tokens(stream.model.tokenizer, question=QUESTION))


def sparse_native(native: NativeModel, video: np.ndarray, kept: list[list[int]]) -> torch.Tensor:
    """Native inference over all frames, with all visual tokens but `kept`, by pair, taken out behind the tower."""
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video], 2.0)
    positions = native.trained_positions(inputs)
    with torch.inference_mode():
        seen = native.model.model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"])
        seen = getattr(seen, "pooler_output", seen)
        embeds = native.model.get_input_embeddings()(inputs["input_ids"]).clone()
        is_video = inputs["mm_token_type_ids"][0] != 0
        embeds[0, is_video] = torch.cat(list(seen)).to(embeds)
        stays = ~is_video
        places = is_video.nonzero()[:, 0].view(len(kept), -1)
        for pair, chosen in enumerate(kept):
            stays[places[pair, chosen]] = True
        hidden = native.model.model.language_model(
            inputs_embeds=embeds[:, stays], position_ids=positions[:, :, stays]
        ).last_hidden_state
        logits = native.model.lm_head(hidden[0, -1])
    return logits.float()


def test_the_engine_equals_native_without_the_same_tokens(model, folder):
    """The tower sees whole pictures; the language model sees the new pieces alone, where and when they are."""
    video = scene({4: [(0, 1)], 5: [(0, 1)], 8: [(1, 0), (1, 2)]})
    stream = stream_of(model, video)
    kept = [[0, 1, 2, 3, 4, 5], [], [1], [1], [3, 5], []]  # a change within a pair is one towards the next pair too
    assert stream.cache.length == opening(stream) + sum(map(len, kept))
    native = NativeModel(folder)
    expected = sparse_native(native, video, kept)
    assert (first_logits(stream) - expected).abs().max() < TOLERANCE
    wrong = sparse_native(native, video, [*kept[:2], [2], *kept[3:]])
    assert (first_logits(stream) - wrong).abs().max() > 10 * TOLERANCE


def test_video_that_always_changes_is_read_whole(model):
    video = np.random.default_rng(1).integers(0, 256, (10, ROWS * SIDE, COLUMNS * SIDE, 3), dtype=np.uint8)
    filtered, whole = stream_of(model, video), stream_of(model, video, still_threshold=0.0)
    assert filtered.cache.length == whole.cache.length
    assert (first_logits(filtered) - first_logits(whole)).abs().max() < TOLERANCE


def test_a_still_scene_costs_no_tokens_and_no_vision(model, tower):
    stream = stream_of(model, scene({}, frames=20), still_refresh=100.0)
    assert stream.cache.length == opening(stream) + ROWS * COLUMNS
    assert tower == [1]
    assert stream.frames == 20
    moment = stream.ask(QUESTION, max_new_tokens=2).moment
    assert (moment.frames, moment.last_stamp_ns) == (20, 9_500_000_000)


def test_noise_of_a_camera_is_no_change(model, tower):
    video = scene({}, frames=12).astype(int)
    video += np.random.default_rng(0).integers(-2, 3, video.shape)
    stream = stream_of(model, video.clip(0, 255).astype(np.uint8), still_threshold=4.0)
    assert stream.cache.length == opening(stream) + ROWS * COLUMNS


def test_only_pairs_with_a_change_pass_through_the_tower(model, tower):
    stream_of(model, scene({6: [(1, 1)]}, frames=16), chunk_frames=8)
    assert tower == [2]


def test_a_slow_change_is_noticed(model):
    """Pictures are compared with what was read, not with the one before."""
    base = np.full((40, ROWS * SIDE, COLUMNS * SIDE, 3), 60, dtype=np.uint8)
    base += np.arange(40, dtype=np.uint8)[:, None, None, None]
    stream = stream_of(model, base, still_threshold=3.0, still_refresh=1000.0)
    assert stream.cache.length == opening(stream) + ROWS * COLUMNS * 10


def test_a_still_piece_is_read_again_from_time_to_time(model):
    stream = stream_of(model, scene({}, frames=44), still_refresh=5.0)
    assert stream.cache.length == opening(stream) + ROWS * COLUMNS * 5


@pytest.mark.parametrize("chunk", [2, 4, 64])
def test_chunks_and_questions_change_nothing(model, chunk):
    """A fork that reads waiting frames skips what the stream will skip."""
    video = scene({4: [(0, 1)], 7: [(0, 0)], 10: [(1, 0), (1, 2)]})
    stream = VideoStream(model, StreamConfig(target_fps=0, still_threshold=4.0, chunk_frames=chunk))
    for i in range(len(video)):
        stream.append(video[i : i + 1], [i / 2])
        before = stream.signature()
        asked = first_logits(stream)
        assert stream.signature() == before
        if i % 2:
            reference = stream_of(model, video[: i + 1], chunk_frames=2)
            assert (asked - first_logits(reference)).abs().max() < TOLERANCE


def test_after_a_remembered_turn_everything_is_read_anew(model):
    stream = stream_of(model, scene({}, frames=8))
    stream.remember("What?", "Nothing.")
    length = stream.cache.length
    reopen = len(stream.pieces.reopen.tokens(model.tokenizer))
    stream.append(scene({}, frames=4), [10 + i / 2 for i in range(4)])
    assert stream.cache.length == length + reopen + ROWS * COLUMNS


@pytest.mark.parametrize("rule", ["window", "importance"])
def test_what_was_forgotten_is_read_again(model, rule):
    """One corner changes all the time until the rest of the picture falls out of the memory."""
    video = scene({i: [(0, 0)] for i in range(120)}, frames=120)
    stream = stream_of(
        model,
        video,
        still_refresh=1000.0,
        eviction=rule,
        budget_tokens=opening_tokens(model) + 30,
        recent_share=0.5,
        chunk_frames=2,
    )
    ledger = stream.state.ledger
    assert stream.evicted.times > 1
    whole = [b for b in ledger.blocks if b.places is not None]
    held = {int(p) for b in whole for p in b.places}
    if ledger.survivors is not None:
        held |= {int(p) for p in ledger.survivors.places[0].flatten() if p >= 0}
    assert held == set(range(ROWS * COLUMNS))
    assert ledger.tokens == stream.cache.length <= opening_tokens(model) + 30


def opening_tokens(model: LoadedModel) -> int:
    return opening(VideoStream(model))


def test_restoring_goes_back_to_what_was_read_then(model):
    video = scene({4: [(0, 1)], 8: [(0, 1)]})
    stream = stream_of(model, video[:4])
    then = stream.snapshot()
    stream.append(video[4:8], [i / 2 for i in range(4, 8)])
    stream.restore(then)
    stream.append(video[:4], [i / 2 for i in range(4, 8)])
    assert stream.cache.length == opening(stream) + ROWS * COLUMNS


def test_the_embedded_model_still_knows_what_is_there():
    model = load_model("embedded", device="cpu", dtype="float32")
    world = Scene(24, 2.0, 112, 112, [Track(0, 0, 0.15, 0, 24, xs=[0.2] * 24, ys=[0.5] * 24)])
    video = render(world, 5)
    stream = stream_of(model, video, still_threshold=8.0)
    assert stream.cache.length - opening(stream) == 2 * 16  # at 0 s and, refreshed, at 10 s
    assert stream.ask("What is visible now?").text == "a red circle"
    assert stream.ask("Where is the circle?").text == "left"
