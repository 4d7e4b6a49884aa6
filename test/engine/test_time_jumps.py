"""What a stream does when the stamps jump: policies, accounts, failures, bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_vl_ros.engine import StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.memories import Memories
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.errors import FrameError

QUESTION = "What is it?"
SECOND = 1_000_000_000
PER_PAIR = 6
POLICIES = ["reset", "continue", "mark"]
RULES = ["window", "importance"]


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (400, 56, 84, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen2_vl"])
def model(request, tmp_path_factory):
    folder = random_checkpoint(5, model_type=request.param, folder=tmp_path_factory.mktemp("checkpoint"))
    return load_model(str(folder), device="cpu", dtype="float32")


def make(loaded, policy: str = "mark", **config) -> VideoStream:
    return VideoStream(loaded, StreamConfig(**{"target_fps": 0, "on_time_jump": policy} | config))


def half_seconds(n: int, start: float = 0.0) -> list[float]:
    return [start + 0.5 * i for i in range(n)]


def loops(stream: VideoStream, video: np.ndarray, lengths: list[int], start: int = 0) -> int:
    """Spans of so many frames at 2 fps, each with stamps from 0 on. Returns how many frames were shown."""
    for length in lengths:
        stream.append(video[start : start + length], half_seconds(length))
        start += length
    return start


# --- policies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stamp", "back", "gaps"), [(-0.5, 1, 0), (3e5, 0, 1)])
def test_reset_begins_anew_with_the_frame_that_jumped(loaded, video, stamp, back, gaps):
    stream, fresh = make(loaded, "reset"), make(loaded)
    stream.append(video[:7], half_seconds(7))
    assert len(stream.pending) == 3
    stream.append(video[7:12], half_seconds(5, stamp))
    assert (stream.jumps.back, stream.jumps.gaps, stream.resets) == (back, gaps, 1)
    fresh.append(video[7:12], half_seconds(5, stamp))
    assert stream.signature() == fresh.signature()
    assert (stream.frames, len(stream.pending)) == (4, 1)
    assert stream.ask(QUESTION, max_new_tokens=5).token_ids == fresh.ask(QUESTION, max_new_tokens=5).token_ids


@pytest.mark.parametrize("policy", POLICIES)
def test_a_pause_or_a_frame_out_of_order_is_no_jump(loaded, video, policy):
    stream, plain = make(loaded, policy), make(loaded, max_gap=0)
    stamps = [0.0, 5.0, 64.9, 65.0]
    for one in (stream, plain):
        one.append(video[:4], stamps)
    with pytest.raises(FrameError, match=r"64\.000000 s is not later.*jump_back \(1 s\)"):
        stream.append(video[4:5], [64.0])
    assert (stream.jumps.back, stream.jumps.gaps) == (0, 0)
    assert stream.signature() == plain.signature()


def test_limits_are_settings(loaded, video):
    stream = make(loaded, max_gap=0.7, jump_back=5.0)
    stream.append(video[:3], [10.0, 10.7, 11.5])
    assert stream.jumps.gaps == 1
    stream.append(video[3:4], [20.0])
    with pytest.raises(FrameError, match="jump_back"):
        stream.append(video[4:5], [19.0])
    stream.append(video[4:5], [14.9])
    assert (stream.jumps.back, stream.jumps.gaps) == (1, 2)


def test_without_max_gap_only_the_models_positions_count(model, video):
    stream = make(model, max_gap=0)
    stream.append(video[:2], [0.0, 0.5])
    limit = model.adapter.max_positions / float(model.adapter.tokens_per_second or 1)
    stream.append(video[2:3], [0.5 + limit])
    assert stream.jumps.gaps == 0
    stream.append(video[3:4], [1.5 + 2 * limit])
    assert stream.jumps.gaps == (1 if model.adapter.tokens_per_second else 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_short_recording_that_loops(loaded, video, policy):
    """Shorter than jump_back."""
    stream = make(loaded, policy)
    for i in range(4):
        stream.append(video[5 * i : 5 * i + 5], [0.1 * j for j in range(5)])
    assert (stream.jumps.back, stream.jumps.gaps) == (3, 0)
    seen = stream.ask(QUESTION, max_new_tokens=1).moment
    assert seen.frames == (5 if policy == "reset" else 20)
    assert (seen.first_stamp_ns, seen.last_stamp_ns) == (0, 4 * SECOND // 10)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_jump_under_a_cadence(loaded, video, policy):
    """Frames that the cadence leaves out stay left out; the one that jumps is kept."""
    stream = make(loaded, policy, target_fps=2.0)
    kept = [bool(stream.offer(video[i], i * SECOND // 4)) for i in range(8)]
    kept += [bool(stream.offer(video[8 + i], i * SECOND // 4)) for i in range(8)]
    assert kept == [True, False] * 8


def test_a_gap_that_the_cadence_leaves_out_is_none(loaded, video):
    stream = make(loaded, "continue", target_fps=0.001)
    assert stream.offer(video[0], 0)
    assert not stream.offer(video[1], 100 * SECOND)
    assert stream.jumps.gaps == 0


# --- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_a_picture_that_cannot_be_used_jumps_nowhere(loaded, video, policy):
    stream = make(loaded, policy)
    stream.append(video[:7], half_seconds(7))
    signature, waiting = stream.signature(), stream.pending

    def broken() -> np.ndarray:
        raise OSError("truncated")

    for picture, error in ((broken, OSError), (np.zeros((4, 4), np.uint8), FrameError)):
        with pytest.raises(error):
            stream.offer(picture, 0)
    assert (stream.signature(), stream.pending, stream.jumps.back) == (signature, waiting, 0)
    stream.append(video[7:8], [3.5])  # the old time goes on
    assert (stream.frames, stream.jumps.back) == (8, 0)
    assert stream.offer(video[8], 0).jump  # and is left by the next frame


def test_a_reset_that_fails_changes_nothing(loaded, video):
    stream = make(loaded, "reset")
    stream.append(video[:7], half_seconds(7))
    signature = stream.signature()
    layer = loaded.native.model.language_model.layers[-1]
    hook = layer.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError("no memory")))
    with pytest.raises(MemoryError):
        stream.offer(video[7], 0)
    hook.remove()
    assert (stream.signature(), len(stream.pending), stream.jumps.back, stream.resets) == (signature, 3, 0, 0)
    assert stream.offer(video[7], 0)
    assert (stream.frames, len(stream.pending), stream.jumps.back, stream.resets) == (0, 1, 1, 1)


def test_a_picture_that_the_budget_cannot_hold_resets_nothing(loaded, video):
    start = make(loaded).cache.length
    stream = make(loaded, "reset", eviction="window", budget_tokens=start + 5 * PER_PAIR)
    stream.append(video[:7], half_seconds(7))
    signature = stream.signature()
    with pytest.raises(FrameError, match="raise the budget"):
        stream.offer(np.zeros((600, 600, 3), np.uint8), 0)
    assert (stream.signature(), len(stream.pending), stream.resets) == (signature, 3, 0)
    assert stream.offer(video[7], 0)


def test_a_chunk_that_fails_at_a_jump_leaves_the_videos_apart(loaded, video):
    stream, plain = make(loaded), make(loaded)
    stream.append(video[:7], half_seconds(7))
    layer = loaded.native.model.language_model.layers[-1]
    hook = layer.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError("no memory")))
    with pytest.raises(MemoryError):
        stream.append(video[7:8], [0.0])
    hook.remove()
    assert stream.drop_pending() == 4
    stream.append(video[8:12], half_seconds(4, 0.5))
    plain.append(video[:4], half_seconds(4))
    plain.append(video[8:12], half_seconds(4))
    assert stream.cache.length == plain.cache.length
    assert stream.cache.signature() == plain.cache.signature()


def test_frames_of_two_spans_wait_apart(loaded, video):
    stream = make(loaded, chunk_frames=4)
    for i, stamp in enumerate([*half_seconds(5), *half_seconds(3), *half_seconds(1)]):
        stream.offer(video[i], round(stamp * SECOND))
    chunks = []
    while (report := stream.encode_chunk()) is not None:
        chunks.append(report.frames)
    assert chunks == [4, 1, 3]
    assert (stream.flush(), len(stream.pending)) == (None, 1)
    for i, stamp in enumerate([*half_seconds(3, -9.0), *half_seconds(3, -99.0)]):
        stream.offer(video[i], round(stamp * SECOND))
    assert [stream.flush().frames for _ in range(3)] == [1, 3, 2]


# --- going back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("later", [400.0, 2.9, -7.0])
def test_a_memory_that_was_gone_back_to_is_kept(loaded, video, policy, later):
    """However long ago it was, and whatever the clock did since."""
    stream, memories = make(loaded, policy), Memories()
    stream.append(video[:8], half_seconds(8))
    memories.keep(stream, "door")
    stream.append(video[8:14], half_seconds(6, 4.0))
    memories.recall(stream, "door")
    stream.append(video[14:20], half_seconds(6, later))
    assert (stream.frames + len(stream.pending), stream.resets) == (14, 1)
    assert (stream.jumps.back, stream.jumps.gaps) == (0, 0)
    # After that the clock is looked at again.
    stream.append(video[20:21], [later - 5.0])
    assert stream.jumps.back == 1


# --- bounded memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("chunk", [1, 4, 5])
def test_a_budget_is_kept_across_spans(model, video, rule, chunk):
    stream = make(model, eviction=rule, budget_tokens=120, chunk_frames=chunk)
    shown = 0
    for number, length in enumerate([7, 12, 1, 2, 31, 9, 3, 3, 3, 8]):
        for i in range(length):
            stream.append(video[shown : shown + 1], [0.5 * i - 10 * number])
            shown += 1
            assert stream.cache.length <= 120
            assert stream.state.ledger.tokens == stream.cache.length
            assert stream.evicted.frames + stream.state.ledger.frames == stream.frames
            assert stream.frames + len(stream.pending) == shown
        assert stream.ask(QUESTION, max_new_tokens=1).token_ids is not None
    assert stream.evicted.times > 2
    assert stream.jumps.back == 9


@pytest.mark.parametrize("rule", RULES)
def test_stamps_are_those_of_the_first_and_the_last_frame_in_the_order_of_arrival(loaded, video, rule):
    stream = make(loaded, eviction=rule, budget_tokens=100)
    arrived = [*half_seconds(20, 1000.0), *half_seconds(40, 50.0), *half_seconds(4, 0.0)]
    for i, stamp in enumerate(arrived):
        stream.append(video[i : i + 1], [stamp])
        seen = stream.ask(QUESTION, max_new_tokens=1).moment
        held = [*stream.state.ledger.blocks, *(stream.state.ledger.survivors or Blocks).blocks]
        stamps = {b.first_ns for b in held if b.frames} | {f.stamp_ns for f in stream.pending}
        first = next(s for s in arrived if round(s * SECOND) in stamps)
        assert (seen.first_stamp_ns, seen.last_stamp_ns) == (round(first * SECOND), round(stamp * SECOND))
    if rule == "window":
        assert seen.first_stamp_ns > seen.last_stamp_ns
        assert stream.evicted.last_ns == round(1009.5 * SECOND)


class Blocks:
    blocks = ()


@pytest.mark.parametrize("rule", RULES)
def test_spans_across_forgetting_do_not_depend_on_going_back(model, video, rule):
    stream, straight = (make(model, eviction=rule, budget_tokens=100) for _ in range(2))
    at = loops(stream, video, [9, 12])
    moment = stream.snapshot()
    loops(stream, video, [20, 20], at)
    stream.restore(moment)
    stream._sampler.restored = False  # the clock is the recording's own
    loops(stream, video, [11, 30], at)
    loops(straight, video, [9, 12, 11, 30])
    assert stream.evicted == straight.evicted
    ids = stream.pieces.ask.tokens(model.tokenizer, question=QUESTION)
    assert (stream.fork().feed(ids) - straight.fork().feed(ids)).abs().max() < 1e-4


def test_borders_do_not_fill_a_memory_that_a_loop_runs_through(loaded, video):
    """Text is always new to `importance`; the borders of a recording that loops are not."""
    stream = make(loaded, eviction="importance", budget_tokens=100, novelty_share=1.0)
    for i in range(60):
        stream.append(video[4 * i : 4 * i + 4], half_seconds(4))
    survivors = stream.state.ledger.survivors
    video_tokens = torch.cat([p.flatten() for p in survivors.places]) >= 0
    assert video_tokens.float().mean() > 0.9
    assert stream.jumps.back == 59


def test_a_full_memory_without_a_rule_refuses_the_frame_and_the_jump(loaded, video):
    start = len(make(loaded).pieces.start.tokens(loaded.tokenizer))
    stream = make(loaded, budget_tokens=start + 5 * PER_PAIR + 1)  # no room for a border and one more pair
    stream.append(video[:7], half_seconds(7))
    with pytest.raises(FrameError, match="used up"):
        stream.append(video[7:8], [0.0])
    assert (stream.jumps.back, len(stream.pending)) == (0, 3)
    stream.append(video[7:8], [3.5])
    with pytest.raises(FrameError, match="used up"):
        stream.append(video[8:9], [0.0])
    stream.reset()
    stream.append(video[:4], half_seconds(4))


def test_what_is_pinned_may_reach_across_a_border(model, video):
    stream = make(model, eviction="window", budget_tokens=160, sink_frames=6, max_position=120)
    at = loops(stream, video, [3, 200])
    ledger = stream.state.ledger
    assert sum(b.frames for b in ledger.pinned) == 7  # an odd frame is in a pair of its own
    assert [b.border for b in ledger.pinned] == [False, False, False, True, False, False]
    assert stream.cache.length <= 160
    loops(stream, video, [50], at)
    assert stream.evicted.rebases
    assert [b.first_ns for b in stream.state.ledger.pinned] == [b.first_ns for b in ledger.pinned]


# --- pieces that did not change -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["none", "window"])
@pytest.mark.parametrize("stamp", [-1000.0, 1000.0])
def test_a_still_scene_is_read_once_per_span(loaded, video, rule, stamp):
    """Refreshed by the time of its span, whatever the stamps were before."""
    settings = {} if rule == "none" else {"eviction": rule, "budget_tokens": 200}
    still = np.repeat(video[:1], 48, axis=0)
    stream = make(loaded, still_threshold=4.0, still_refresh=10.0, **settings)
    stream.append(still[:8], half_seconds(8))
    before = stream.cache.length
    stream.append(still, half_seconds(48, stamp))
    border = len(stream.pieces.border.tokens(loaded.tokenizer))
    assert stream.cache.length == before + border + 3 * PER_PAIR  # at 0, 10 and 20 s


@pytest.mark.parametrize("rule", ["none", "window"])
def test_a_still_scene_that_goes_on_is_refreshed_by_the_videos_time(loaded, video, rule):
    settings = {} if rule == "none" else {"eviction": rule, "budget_tokens": 200}
    still = np.repeat(video[:1], 24, axis=0)
    stream = make(loaded, "continue", still_threshold=4.0, still_refresh=10.0, **settings)
    opening = stream.cache.length
    for start in (5000.0, 0.0):
        stream.append(still, half_seconds(24, start))
    assert stream.cache.length == opening + 3 * PER_PAIR  # 24 s in all
