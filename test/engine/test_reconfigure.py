"""Settings that change while a stream lives: each is seen, forks do not notice, what is refused changes nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from stream_vl_ros.bench.native import NativeModel, assistant_turn, user_turn
from stream_vl_ros.engine import LoadedModel, Reconfigured, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.errors import CacheError, ConfigError, FrameError, PromptError

QUESTION = "What happened before the red car?"
TOKENS = 8
TOLERANCE = 1e-4
PER_PAIR = 6
SECOND = 1_000_000_000
RULES = ["window", "importance"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(random_checkpoint(5, folder=tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def model(folder) -> LoadedModel:
    return load_model(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def native(folder) -> NativeModel:
    return NativeModel(folder)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(6).integers(0, 256, (240, 56, 84, 3), dtype=np.uint8)


def make(model, **config) -> VideoStream:
    return VideoStream(model, StreamConfig(**{"target_fps": 0} | config))


def change(stream: VideoStream, **settings) -> Reconfigured:
    return stream.reconfigure(replace(stream.config, **settings))


def show(stream: VideoStream, video: np.ndarray, start: int, end: int) -> None:
    stream.append(video[start:end], [i / 2 for i in range(start, end)])


def opening(stream: VideoStream) -> int:
    return len(stream.pieces.start.tokens(stream.model.tokenizer))


def first_logits(stream: VideoStream) -> torch.Tensor:
    with stream.fork() as fork:
        return fork.feed(fork.ask.tokens(stream.model.tokenizer, question=QUESTION))


def everything(stream: VideoStream) -> tuple:
    """What a refused change must not touch."""
    return (
        stream.config, stream.pieces, stream._keeper, stream._reader, stream._keeper.budget, stream._sampler,
        stream.state, stream.state.ledger.blocks, stream.signature(), stream.pending, stream.frame_size, stream.resets,
        stream.cache.memory_bytes, stream.evicted,
    )  # fmt: skip


def sound(stream: VideoStream, shown: int) -> None:
    """Accounts, ledger and budget agree, and it answers."""
    assert stream.frames + len(stream.pending) == shown
    assert stream.state.ledger.tokens == stream.cache.length
    assert stream.state.ledger.frames == stream.state.held_frames
    if stream._keeper.budget is not None and stream._keeper.active:
        assert stream.cache.length <= stream._keeper.budget
        assert stream.cache.memory_bytes <= stream._keeper.budget * stream.cache.shape.bytes_per_token
    assert torch.isfinite(first_logits(stream)).all()


# --- what is said of it -------------------------------------------------------------------------------------


def test_nothing_changes_nothing(model, video):
    stream = make(model)
    show(stream, video, 0, 7)
    before = everything(stream)
    assert stream.reconfigure(replace(stream.config)) == Reconfigured()
    assert str(stream.reconfigure(stream.config)) == "nothing changed"
    assert everything(stream) == before


def test_what_was_done_is_told(model, video):
    stream = make(model)
    show(stream, video, 0, 60)
    length = stream.cache.length
    done = change(stream, eviction="window", budget_tokens=100, max_pixels=5000)
    assert [(c.name, c.old, c.new) for c in done.changes] == [
        ("max_pixels", 0, 5000),
        ("eviction", "none", "window"),
        ("budget_tokens", 0, 100),
    ]
    assert (done.later, done.anew, done.forgotten) == (("max_pixels",), False, length - stream.cache.length)
    assert str(done) == (
        "max_pixels 0 -> 5000, eviction 'none' -> 'window', budget_tokens 0 -> 100; max_pixels from the next reset on; "
        f"{done.forgotten} tokens were forgotten for the lower budget"
    )


# --- cadence and chunks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [(2.0, 5.0), (5.0, 2.0), (2.0, 0.0), (0.0, 2.0), (7.5, 3.0)])
@pytest.mark.parametrize("cut", [1, 17, 31])
def test_another_cadence_keeps_time_exactly(model, native, video, old, new, cut):
    """Later frames lie at whole periods behind the newest one that was kept, and native inference agrees there."""
    stream = make(model, target_fps=old)
    kept: list[tuple[int, float]] = []
    base = None
    for i in range(60):  # a camera at 10 Hz
        if i == cut:
            change(stream, target_fps=new)
            base = kept[-1][1]
        if stream.offer(video[i], i * SECOND // 10):
            fps = old if base is None else new
            if fps == 0:
                at = i / 10
            else:
                begin = base or 0.0
                at = begin + int((i / 10 - begin) * fps + 0.1 + 1e-6) / fps
            kept.append((i, at))
        stream.encode_chunk()
    assert len({round(b - a, 6) for (_, a), (_, b) in itertools.pairwise(kept)}) > 1 or cut == 1
    shown = video[[i for i, _ in kept]]
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [shown], 2.0)
    positions = native.trained_positions(inputs, [[t + 1e-6 for _, t in kept[::2]]])
    assert (first_logits(stream) - native.logits(inputs, positions)[-1]).abs().max() < TOLERANCE


def test_a_budget_in_seconds_follows_the_cadence(model, video):
    stream = make(model, target_fps=2.0, eviction="window", budget_seconds=10.0)
    show(stream, video, 0, 60)
    assert stream._keeper.budget == opening(stream) + 10 * PER_PAIR
    change(stream, target_fps=4.0)
    assert stream._keeper.budget == opening(stream) + 20 * PER_PAIR
    with pytest.raises(ConfigError, match="needs a target_fps"):
        change(stream, target_fps=0.0)
    sound(stream, 60)


@pytest.mark.parametrize("sizes", [(4, 6, 2), (1, 8, 3), (16, 4, 1)])
def test_chunks_of_another_size_give_the_native_answer(model, native, video, sizes):
    stream = make(model, chunk_frames=sizes[0])
    reports = []
    for part, size in enumerate(sizes):
        change(stream, chunk_frames=size)
        for i in range(7 * part, 7 * part + 7):
            reports += stream.append(video[i : i + 1], [i / 2])
    assert {r.frames for r in reports} > {max(2, sizes[0] // 2 * 2)} or sizes[0] == 16
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video[:21]], 2.0)
    expected = native.generate(inputs, TOKENS, text_base="trained")
    assert (first_logits(stream) - expected.logits).abs().max() < TOLERANCE
    assert stream.ask(QUESTION, max_new_tokens=TOKENS).token_ids == expected.token_ids


# --- forgetting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_comes_late_is_as_one_from_the_start(model, video, rule):
    """The contents were kept account of all the time."""
    late, early = make(model), make(model, eviction=rule, budget_tokens=100)
    for stream in (late, early):
        show(stream, video, 0, 16)
        change(stream, eviction=rule, budget_tokens=100)
        show(stream, video, 16, 90)
        sound(stream, 90)
    assert late.evicted == early.evicted
    assert late.evicted.times > 2
    assert late.signature() == early.signature()


@pytest.mark.parametrize("rule", RULES)
def test_a_lower_budget_makes_room_at_once(model, video, rule):
    stream = make(model, eviction=rule, budget_tokens=400)
    show(stream, video, 0, 130)
    with stream.fork() as fork:
        expected = first_logits(stream)
        seen = fork.feed(fork.ask.tokens(model.tokenizer, question=QUESTION))
        assert (seen - expected).abs().max() < 1e-5
        done = change(stream, budget_tokens=150)
        assert done.forgotten > 200
        assert stream.cache.length <= 150
        assert stream.cache.memory_bytes == 150 * stream.cache.shape.bytes_per_token
        again = fork.fork().feed([5, 6])
        assert torch.isfinite(again).all()
    sound(stream, 130)
    change(stream, budget_tokens=300)
    assert stream.cache.memory_bytes == 300 * stream.cache.shape.bytes_per_token
    show(stream, video, 130, 220)
    assert stream.cache.length > 200
    sound(stream, 220)


@pytest.mark.parametrize("rule", RULES)
def test_a_fork_answers_as_if_nothing_had_changed(model, video, rule):
    stream, same = (make(model, eviction=rule, budget_tokens=300) for _ in range(2))
    for one in (stream, same):
        show(one, video, 0, 91)
    fork, other = stream.fork(), same.fork()
    for settings in (
        {"budget_tokens": 120},
        {"eviction": "none", "budget_tokens": 0},
        {"system_prompt": "You watch a corridor."},
        {"text_base": "transformers", "target_fps": 3.0},
    ):
        change(stream, **settings)
        show(stream, video, 91, 99)
        ids = fork.ask.tokens(model.tokenizer, question=QUESTION)
        assert torch.equal(fork.feed(ids), other.feed(ids))
        stream.reset()


STEPS = [
    {"eviction": "window"},
    {"eviction": "importance"},
    {"eviction": "none", "budget_tokens": 0},
    {"eviction": "importance", "budget_tokens": 140, "novelty_share": 1.0},
    {"eviction": "window", "sink_frames": 8},
    {"eviction": "importance", "recent_share": 0.6},
    {"sink_frames": 2},
    {"sink_frames": 0, "budget_tokens": 100},
    {"eviction": "window", "still_threshold": 3.0},
    {"eviction": "importance", "max_position": 100},
]


@pytest.mark.parametrize("order", [range(10), range(9, -1, -1), [1, 3, 7, 5, 0, 6, 4, 8, 2, 9]])
def test_rules_budgets_and_sinks_in_any_order(model, video, order):
    stream, shown = make(model, eviction="importance", budget_tokens=100), 0
    for number in order:
        settings = dict(STEPS[number])
        if settings.get("eviction", stream.config.eviction) != "none":
            settings.setdefault("budget_tokens", stream.config.budget_tokens or 110)
        change(stream, **settings)
        sound(stream, shown) if shown else None
        for _ in range(6):
            show(stream, video, shown, shown + 4)
            shown += 4
            sound(stream, shown)


def test_the_kind_of_rule_is_seen(model, video):
    stream = make(model, eviction="window", budget_tokens=100)
    show(stream, video, 0, 60)
    assert stream.state.ledger.survivors is None
    change(stream, eviction="importance")
    show(stream, video, 60, 90)
    assert stream.state.ledger.survivors is not None
    whole, shown = stream.state.ledger.loose[0].first_ns, 90
    change(stream, eviction="window")
    while stream.state.ledger.survivors is not None:
        show(stream, video, shown, shown + 2)
        shown += 2
    # What was left in part is the oldest: a window forgets it as a whole, and nothing else as long as that will do.
    assert stream.state.first_stamp_ns == whole
    sound(stream, shown)
    change(stream, eviction="none")
    with pytest.raises(FrameError, match="used up"):
        show(stream, video, shown, 150)


@pytest.mark.parametrize(("share", "least", "most"), [(0.1, 0, 1), (0.9, 5, 20)])
def test_shares_count_at_the_next_round(model, video, share, least, most):
    stream = make(model, eviction="importance", budget_tokens=100, recent_share=0.5, chunk_frames=2)
    show(stream, video, 0, 60)
    change(stream, recent_share=share)
    recent = []
    for i in range(60, 90, 2):
        times = stream.evicted.times
        show(stream, video, i, i + 2)
        if stream.evicted.times > times:
            recent.append(len(stream.state.ledger.loose) - 1)
    assert recent
    assert all(least <= n <= most for n in recent), recent


def test_more_of_the_beginning_may_be_pinned(model, video):
    stream = make(model, eviction="window", budget_tokens=160)
    show(stream, video, 0, 20)
    change(stream, sink_frames=6)
    show(stream, video, 20, 120)
    assert [b.first_ns for b in stream.state.ledger.pinned if b.frames] == [0, SECOND, 2 * SECOND]
    sound(stream, 120)
    change(stream, sink_frames=2)
    show(stream, video, 120, 200)
    assert [b.first_ns for b in stream.state.ledger.blocks if b.frames][:1] == [0]
    assert [b.first_ns for b in stream.state.ledger.pinned if b.frames] == [0]
    # Those that are gone cannot be.
    change(stream, sink_frames=10)
    assert [b.first_ns for b in stream.state.ledger.pinned if b.frames] == [0]
    sound(stream, 200)


def test_pinned_frames_that_are_freed_are_the_oldest_survivors(model, video):
    stream = make(model, eviction="importance", budget_tokens=160, sink_frames=8)
    show(stream, video, 0, 120)
    kept = stream.cache.signature()
    change(stream, sink_frames=2)
    assert stream.cache.signature() == kept
    survivors = stream.state.ledger.survivors
    assert [b.first_ns for b in survivors.blocks[:3]] == [SECOND, 2 * SECOND, 3 * SECOND]
    assert [b.first_ns for b in stream.state.ledger.pinned if b.frames] == [0]
    show(stream, video, 120, 200)
    left = sum((s < 3).sum() for s in stream.state.ledger.survivors.sources)
    assert left < sum(3 * PER_PAIR * s.shape[0] for s in survivors.sources)
    sound(stream, 200)


def test_positions_are_moved_back_at_once(model, video):
    stream = make(model, eviction="window", budget_tokens=100)
    show(stream, video, 0, 200)
    assert stream.state.segment.last_time > 150
    change(stream, max_position=120)
    assert stream.evicted.rebases == 1
    assert stream.state.segment.last_time < 90
    sound(stream, 200)


# --- the other settings -------------------------------------------------------------------------------------


def test_still_pieces(model, video):
    still = np.repeat(video[:1], 80, axis=0)
    stream = make(model)
    lengths = []
    for part, settings in enumerate(
        [{}, {"still_threshold": 4.0}, {"still_refresh": 3.0}, {"still_threshold": 0.0}, {"still_threshold": 4.0}]
    ):
        change(stream, **settings)
        before = stream.cache.length
        show(stream, still, 16 * part, 16 * part + 16)
        lengths.append((stream.cache.length - before) // PER_PAIR)
    # All; the first pair; again at 11, 14 s of which 3 s are past, and so on; all; the first and every 3 s.
    assert lengths == [8, 1, 3, 8, 3]


def test_what_was_read_without_the_filter_is_not_compared_with(model, video):
    """A B (unfiltered) A: the last A is new, though it equals what the filter saw last."""
    a, b = np.repeat(video[:1], 4, axis=0), np.repeat(video[1:2], 4, axis=0)
    stream = make(model, still_threshold=4.0, still_refresh=1000.0)
    show(stream, a, 0, 4)
    change(stream, still_threshold=0.0)
    stream.append(b, [2.0, 2.5, 3.0, 3.5])
    change(stream, still_threshold=4.0)
    before = stream.cache.length
    stream.append(a, [4.0, 4.5, 5.0, 5.5])
    assert stream.cache.length == before + PER_PAIR


def test_what_a_jump_does(model, video):
    stream = make(model, on_time_jump="mark")
    show(stream, video, 0, 4)
    change(stream, max_gap=5.0)
    stream.append(video[4:6], [20.0, 23.0])
    change(stream, jump_back=30.0)
    with pytest.raises(FrameError, match=r"jump_back \(30 s\)"):
        stream.append(video[6:7], [20.5])
    change(stream, jump_back=1.0, on_time_jump="continue")
    stream.append(video[6:8], [20.5, 21.0])
    assert (stream.jumps.back, stream.jumps.gaps, stream.state.span) == (1, 1, 1)
    change(stream, on_time_jump="reset")
    stream.append(video[8:9], [0.0])
    assert (stream.jumps.back, stream.jumps.gaps, stream.resets) == (2, 1, 1)
    assert (stream.frames, len(stream.pending)) == (0, 1)


def test_the_size_of_pictures_counts_from_the_next_memory_on(model, video):
    stream = make(model)
    assert change(stream, max_pixels=2000).later == ()  # no video yet
    show(stream, video, 0, 4)
    small = stream.frame_size
    assert small[0] * small[1] <= 2000
    assert change(stream, max_pixels=0).later == ("max_pixels",)
    show(stream, video, 4, 8)
    assert stream.frame_size == small
    stream.reset()
    show(stream, video, 0, 4)
    assert stream.frame_size == (56, 84)


@pytest.mark.parametrize("settings", [{"system_prompt": "You watch a corridor."}, {"text_base": "transformers"}])
def test_what_stands_in_front_of_the_video_begins_it_anew(model, native, video, settings):
    stream = make(model)
    show(stream, video, 0, 7)
    done = change(stream, **settings)
    assert (done.anew, stream.frames, stream.pending, stream.resets) == (True, 0, (), 1)
    fresh = make(model, **settings)
    assert stream.signature() == fresh.signature()
    stream.append(video[7:13], [i / 2 for i in range(6)])
    system = settings.get("system_prompt", "You are a helpful assistant.")
    conversation = [{"role": "system", "content": [{"type": "text", "text": system}]}, user_turn(QUESTION)]
    inputs = native.inputs(native.prompt(conversation), [video[7:13]], 2.0)
    expected = native.generate(inputs, TOKENS, text_base=settings.get("text_base", "trained"))
    assert (first_logits(stream) - expected.logits).abs().max() < TOLERANCE


# --- turns, spans, snapshots --------------------------------------------------------------------------------


def test_changes_around_a_remembered_turn_and_a_jump(model, native, video):
    stream = make(model)
    show(stream, video, 0, 5)
    change(stream, chunk_frames=6)
    stream.remember("What was that?", "a red car")
    change(stream, chunk_frames=2, max_gap=3.0, eviction="importance", budget_tokens=1000)
    stream.append(video[5:8], [2.5, 3.0, 3.5])
    stream.append(video[8:13], [10 + i / 2 for i in range(5)])
    conversation = [user_turn("What was that?"), assistant_turn("a red car"), user_turn(QUESTION, videos=2)]
    inputs = native.inputs(native.prompt(conversation), [video[:5], video[5:8], video[8:13]], 2.0)
    expected = native.generate(inputs, TOKENS, text_base="trained")
    assert (first_logits(stream) - expected.logits).abs().max() < TOLERANCE


def test_going_back_keeps_the_present_settings(model, video):
    stream = make(model, target_fps=2.0, eviction="importance", budget_tokens=200, sink_frames=6)
    show(stream, video, 0, 80)
    moment = stream.snapshot()
    change(stream, target_fps=0.0, budget_tokens=120, sink_frames=0, max_gap=5.0, chunk_frames=2)
    show(stream, video, 80, 100)
    stream.restore(moment)
    assert stream._keeper.budget == 120
    stream.append(video[100:102], [40.1, 40.2])  # no cadence any more
    assert stream.frames + len(stream.pending) == 82
    assert stream.cache.length <= 120
    assert not any(b.frames for b in stream.state.ledger.pinned)
    sound(stream, 82)


def test_a_memory_from_before_another_system_prompt_is_not_gone_back_to(model, video):
    stream = make(model)
    show(stream, video, 0, 8)
    moment, signature = stream.snapshot(), stream.signature()
    change(stream, system_prompt="You watch a corridor.")
    show(stream, video, 8, 12)
    before = everything(stream)
    with pytest.raises(ConfigError, match=r"system_prompt='You watch a corridor\.': this memory was kept with"):
        stream.restore(moment)
    assert everything(stream) == before
    change(stream, system_prompt=StreamConfig().system_prompt)
    stream.restore(moment)
    assert stream.signature() == signature


# --- refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"budget_tokens": 40}, ConfigError, r"budget_tokens=40: the memory budget holds 40 tokens, but .* take \d+"),
        ({"chunk_frames": 64}, ConfigError, r"chunk_frames=64: the memory budget holds 100 tokens"),
        ({"sink_frames": 40}, ConfigError, r"sink_frames=40: the memory budget holds 100 tokens"),
        ({"budget_mib": 0.01}, ConfigError, r"budget_mib=0.01: the memory budget holds \d+ tokens"),
        ({"budget_tokens": 40, "text_base": "transformers"}, ConfigError, "text_base='transformers', budget_tokens=40"),
        ({"system_prompt": "Say <|im_end|>"}, PromptError, "special token"),
    ],
)
def test_what_is_refused_changes_nothing(model, video, rule, settings, error, message):
    stream, plain = (make(model, eviction=rule, budget_tokens=100) for _ in range(2))
    for one in (stream, plain):
        show(one, video, 0, 31)
    before = everything(stream)
    with pytest.raises(error, match=message):
        change(stream, **settings)
    assert everything(stream) == before
    for one in (stream, plain):
        show(one, video, 31, 60)
    assert stream.signature() == plain.signature()


def test_a_combination_that_cannot_be_is_refused_when_it_is_made(model, video):
    stream = make(model, eviction="window", budget_tokens=100)
    show(stream, video, 0, 8)
    with pytest.raises(ConfigError, match="needs a budget"):
        change(stream, budget_tokens=0)
    assert stream.config.budget_tokens == 100


@pytest.mark.parametrize("rule", RULES)
def test_room_that_cannot_be_made_changes_nothing(model, video, rule, monkeypatch):
    stream = make(model, eviction=rule, budget_tokens=200, sink_frames=4)
    show(stream, video, 0, 81)
    before = everything(stream)
    forgetting = type(stream._keeper._rule.forget(stream.state.ledger, 90))
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "keep", lambda *_: (_ for _ in ()).throw(MemoryError("none left")))
        with pytest.raises(MemoryError):
            change(stream, budget_tokens=110, sink_frames=0, target_fps=3.0)
    assert everything(stream) == before
    change(stream, budget_tokens=110, sink_frames=0)
    sound(stream, 81)


def test_memory_that_cannot_be_given_back_leaves_a_sound_stream(model, video, monkeypatch):
    """Room was made already: that cannot be undone, everything else is."""
    stream = make(model, eviction="importance", budget_tokens=200, sink_frames=4)
    show(stream, video, 0, 81)
    with monkeypatch.context() as patch:
        patch.setattr(stream.cache, "resize", lambda _: (_ for _ in ()).throw(MemoryError("none left")))
        with pytest.raises(MemoryError):
            change(stream, budget_tokens=110, target_fps=3.0)
    assert (stream.config.budget_tokens, stream._keeper.budget, stream._sampler.target_fps) == (200, 200, 0)
    assert stream.cache.length <= 110
    show(stream, video, 81, 120)
    sound(stream, 120)


def test_a_memory_that_is_lost_on_the_way_begins_anew_with_the_old_settings(model, video, monkeypatch):
    stream = make(model, eviction="window", budget_tokens=200)
    show(stream, video, 0, 81)
    forgetting = type(stream._keeper._rule.forget(stream.state.ledger, 90))
    keep = forgetting.keep
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "keep", lambda self, layer, k, v: keep(self, layer, k, v) if layer == 0 else 1 / 0)
        with pytest.raises(CacheError, match="division by zero"):
            change(stream, budget_tokens=110, target_fps=3.0)
    assert (stream.config.budget_tokens, stream.config.target_fps, stream._sampler.target_fps) == (200, 0, 0)
    assert (stream.frames, stream.pending, stream.resets) == (0, (), 1)
    show(stream, video, 0, 20)
    sound(stream, 20)
