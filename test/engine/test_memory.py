"""Bounded memory: budgets and rules, against native inference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_vl_ros.bench.native import NativeModel, user_turn
from stream_vl_ros.engine import Question, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.memory.rules import Window
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.errors import CacheError, ConfigError, FrameError, MemoryFullError

QUESTION = "What happened before the red car?"
TOLERANCE = 1e-4
PER_PAIR = 6  # merged tokens of a 60 x 80 picture
RULES = ["window", "importance"]


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(6).integers(0, 256, (80, 56, 84, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(random_checkpoint(5, folder=tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, device="cpu", dtype="float32")


def watch(stream: VideoStream, video: np.ndarray, start: int, end: int) -> None:
    stream.append(video[start:end], [i / 2 for i in range(start, end)])


def make(model, rule: str = "window", **config) -> VideoStream:
    settings = {"target_fps": 0, "eviction": rule, "budget_tokens": 100} | config
    return VideoStream(model, StreamConfig(**settings))


def opening(stream: VideoStream) -> int:
    return len(stream.pieces.start.tokens(stream.model.tokenizer))


# --- budgets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("chunk", [2, 4, 7])
def test_the_budget_is_never_exceeded_and_bytes_stay_the_same(model, video, rule, chunk):
    stream = make(model, rule, chunk_frames=chunk)
    sizes = set()
    for i in range(len(video)):
        watch(stream, video, i, i + 1)
        assert stream.cache.length <= 100
        assert stream.state.ledger.tokens == stream.cache.length
        sizes.add(stream.cache.memory_bytes)
    assert sizes == {100 * model.adapter.cache_shape.bytes_per_token}
    assert stream.cache.pinned_bytes == 0
    assert stream.cache.length > 100 - 100 // 8 - 2 * chunk * PER_PAIR
    assert stream.frames + len(stream.pending) == 80


def test_budgets_in_mib_and_seconds(model, video):
    per_token = model.adapter.cache_shape.bytes_per_token
    mib = make(model, budget_tokens=0, budget_mib=90 * per_token / 2**20)
    watch(mib, video, 0, 60)
    assert mib.cache.length <= 90
    assert mib.cache.memory_bytes <= 90 * per_token
    seconds = make(model, budget_tokens=0, budget_seconds=10, target_fps=2)
    watch(seconds, video, 0, 80)
    held = (seconds.state.last_stamp_ns - seconds.state.first_stamp_ns) / 1e9
    assert 10 * 7 / 8 - 2.5 <= held <= 10
    both = make(model, budget_tokens=90, budget_seconds=100, target_fps=2)
    watch(both, video, 0, 60)
    assert both.cache.length <= 90


def test_what_was_forgotten_is_told(model, video):
    stream = make(model)
    watch(stream, video, 0, 80)
    evicted, state = stream.evicted, stream.state
    assert evicted.frames + state.held_frames == stream.frames == 80
    assert evicted.tokens == 80 // 2 * PER_PAIR + opening(stream) - stream.cache.length
    assert (evicted.first_ns, evicted.last_ns) == (0, (evicted.frames - 1) * 500_000_000)
    assert state.first_stamp_ns == evicted.last_ns + 500_000_000
    moment = stream.ask(QUESTION, max_new_tokens=1).moment
    assert (moment.frames, moment.first_stamp_ns) == (state.held_frames, state.first_stamp_ns)
    # Room is made for several chunks at a time.
    assert evicted.times < 12


def test_frames_of_which_importance_keeps_nothing_are_counted(model, video):
    stream = make(model, "importance", chunk_frames=2)
    for start in range(0, 400, 2):
        watch(stream, np.concatenate([video] * 5), start, start + 2)
        survivors, state = stream.state.ledger.survivors, stream.state
        assert stream.evicted.frames + state.held_frames == start + 2
        assert state.held_frames == stream.state.ledger.frames
        if survivors is not None:
            left = torch.cat([s.flatten() for s in survivors.sources]).unique()
            assert left.tolist() == list(range(len(survivors.blocks)))
    assert 100 < stream.evicted.frames < 400
    assert 0 < state.first_stamp_ns < stream.evicted.last_ns < state.last_stamp_ns


def test_without_a_rule_a_full_memory_refuses_frames_and_goes_on_answering(model, video):
    stream = VideoStream(model, StreamConfig(target_fps=0, budget_tokens=100))
    room = 2 * ((100 - opening(stream)) // PER_PAIR)
    watch(stream, video, 0, room)
    for i in range(room, 80):
        with pytest.raises(FrameError, match=r"100 tokens is used up.*eviction rule") as caught:
            watch(stream, video, i, i + 1)
        assert caught.value.reason == "memory_full"
    assert stream.frames + len(stream.pending) == room
    assert stream.ask(QUESTION, max_new_tokens=3).token_ids
    stream.reset()
    watch(stream, video, 0, 4)
    assert stream.frames == 4


def test_a_budget_that_holds_nothing_says_so(model, video):
    stream = make(model, budget_tokens=30)
    with pytest.raises(FrameError, match=r"take [0-9]+: raise the budget") as caught:
        watch(stream, video, 0, 1)
    assert caught.value.reason == "budget_too_small"
    assert stream.frame_size is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eviction": "window"}, "needs a budget"),
        ({"eviction": "lru", "budget_tokens": 9}, "must be 'none', 'window' or 'importance'"),
        ({"budget_seconds": 5.0, "target_fps": 0}, "needs a target_fps"),
        ({"budget_mib": -1.0}, "budget_mib=-1.0"),
        ({"recent_share": 1.5}, "recent_share=1.5"),
        ({"novelty_share": -0.5}, "novelty_share=-0.5"),
        ({"still_refresh": 0}, "still_refresh=0"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(ConfigError, match=message):
        StreamConfig(**settings)


# --- exactness ----------------------------------------------------------------------------------------------


def masked_native(native: NativeModel, stream: VideoStream, frames: np.ndarray, rounds: list[tuple[int, int, int]]):
    """Logits of the question's last token by one plain forward pass in which evicted tokens are hidden.

    `rounds` are (tokens in the video so far, first evicted, behind the last evicted) in order, counted without the
    opening: what came later sees nothing of them.
    """
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [frames], 2.0)
    positions = native.trained_positions(inputs)
    length, begin = inputs["input_ids"].shape[1], opening(stream)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    for written, first, last in rounds:
        hidden[begin + written :, begin + first : begin + last] = True
    mask = torch.zeros(1, 1, length, length).masked_fill(hidden, torch.finfo(torch.float32).min)
    model = native.model
    model.model.rope_deltas = None
    with torch.inference_mode():
        video = model.model.get_video_features(
            inputs["pixel_values_videos"], inputs["video_grid_thw"], return_dict=True
        ).pooler_output
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        embeds[inputs["input_ids"] == model.config.video_token_id] = torch.cat(list(video))
        out = model.model.language_model(
            inputs_embeds=embeds, position_ids=positions, attention_mask={"full_attention": mask}, use_cache=False
        )
        return model.lm_head(out.last_hidden_state[0, -1]).float()


def first_logits(stream: VideoStream) -> torch.Tensor:
    with stream.fork() as fork:
        return fork.feed(fork.ask.tokens(stream.model.tokenizer, question=QUESTION))


@pytest.mark.parametrize("chunk", [2, 4])
def test_a_window_is_native_inference_that_sees_no_evicted_token(folder, model, video, chunk):
    stream = make(model, chunk_frames=chunk)
    rounds = []
    gone = 0
    for i in range(0, 48, 2):
        before = stream.evicted.tokens
        frames = stream.frames
        watch(stream, video, i, i + 2)
        if stream.evicted.tokens > before:
            rounds.append((frames // 2 * PER_PAIR, gone, gone + stream.evicted.tokens - before))
            gone += stream.evicted.tokens - before
    assert len(rounds) > 3
    native = NativeModel(folder, attention="sdpa")
    expected = masked_native(native, stream, video[:48], rounds)
    assert (first_logits(stream) - expected).abs().max() < TOLERANCE
    # And the comparison notices what it should.
    wrong = masked_native(native, stream, video[:48], [(w, a, b + PER_PAIR) for w, a, b in rounds])
    assert (first_logits(stream) - wrong).abs().max() > 100 * TOLERANCE


def test_importance_that_keeps_everything_changes_nothing(model, video):
    """A budget as large as the video: no token goes, no logit moves."""
    plain = VideoStream(model, StreamConfig(target_fps=0))
    large = make(model, "importance", budget_tokens=opening(plain) + 20 * PER_PAIR)
    for stream in (plain, large):
        watch(stream, video, 0, 40)
    assert large.evicted.times == 0
    assert (first_logits(plain) - first_logits(large)).abs().max() < TOLERANCE


def test_importance_keeps_sink_and_recent_frames_whole(model, video):
    plain = VideoStream(model, StreamConfig(target_fps=0))
    stream = make(model, "importance", recent_share=0.5)
    for one in (plain, stream):
        watch(one, video, 0, 24)
    begin, recent = opening(stream), sum(b.tokens for b in stream.state.ledger.loose)
    assert stream.evicted.times
    assert recent >= 5 * PER_PAIR
    # The first layer's keys depend on nothing but the token and its position.
    kept, all_keys = stream.cache.layer_tokens(0)[0], plain.cache.layer_tokens(0)[0]
    assert torch.allclose(kept[:, :, :begin], all_keys[:, :, :begin], atol=1e-6)
    assert torch.allclose(kept[:, :, -recent:], all_keys[:, :, -recent:], atol=1e-5)
    middle = kept[0, :, begin:-recent]
    distances = torch.cdist(middle, all_keys[0, :, begin:-recent], compute_mode="donot_use_mm_for_euclid_dist")
    found = distances.argmin(-1)
    assert distances.min(-1).values.max() < 1e-4  # survivors keep their positions
    heads = [set(row.tolist()) for row in found]
    assert all(len(h) == middle.shape[1] for h in heads)
    assert heads[0] != heads[1]  # each head makes its own choice
    survivors = stream.state.ledger.survivors
    for head, row in enumerate(found):
        assert survivors.places[0][head].tolist() == [i % PER_PAIR for i in row.tolist()]
        assert survivors.positions[0][head].tolist() == [begin + 2 * (i // PER_PAIR) for i in row.tolist()]


def test_importance_keeps_what_is_new(model):
    """Twenty still pictures with one that differs in the middle: its tokens survive."""
    rng = np.random.default_rng(1)
    still, other = rng.integers(0, 256, (2, 56, 84, 3), dtype=np.uint8)
    frames = np.stack([other if i in (10, 11) else still for i in range(40)])
    stream = make(model, "importance", budget_tokens=opening(make(model)) + 10 * PER_PAIR, novelty_share=1.0)
    watch(stream, frames, 0, 40)
    survivors = stream.state.ledger.survivors
    time = opening(stream) + 10
    share = torch.stack([(p == time).sum(-1) for p in survivors.positions]).float().mean() / PER_PAIR
    assert share > 0.9


# --- isolation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_questions_leave_a_bounded_stream_as_it_is(model, video, rule):
    quiet, busy = make(model, rule), make(model, rule)
    for i in range(60):
        for one in (quiet, busy):
            watch(one, video, i, i + 1)
        before = busy.signature()
        busy.ask(QUESTION, max_new_tokens=2)
        assert busy.signature() == before
    assert busy.signature() == quiet.signature()
    assert busy.evicted == quiet.evicted


@pytest.mark.parametrize("rule", RULES)
def test_a_fork_does_not_notice_that_its_past_is_forgotten(model, video, rule):
    stream = make(model, rule)
    watch(stream, video, 0, 27)
    expected = stream.ask(QUESTION, max_new_tokens=10).token_ids
    generation = stream.start(Question(QUESTION, max_new_tokens=10))
    generation.prefill()
    at = 27
    while not generation.done:
        watch(stream, video, at, at + 4)
        at += 4
        generation.step()
    assert generation.answer().token_ids == expected
    assert stream.evicted.times > 2
    assert stream.cache.pinned_bytes == 0


@pytest.mark.parametrize("rule", RULES)
def test_snapshots_survive_forgetting(model, video, rule):
    stream = make(model, rule)
    watch(stream, video, 0, 31)
    moment, signature, answer = stream.snapshot(), stream.signature(), stream.ask(QUESTION, max_new_tokens=5)
    watch(stream, video, 31, 70)
    stream.restore(moment)
    assert stream.signature() == signature
    assert stream.ask(QUESTION, max_new_tokens=5).token_ids == answer.token_ids
    watch(stream, video, 31, 70)
    straight = make(model, rule)
    watch(straight, video, 0, 70)
    assert stream.evicted == straight.evicted
    assert (first_logits(stream) - first_logits(straight)).abs().max() < TOLERANCE


@pytest.mark.parametrize("rule", RULES)
def test_remembered_turns_and_dialogues_across_forgetting(model, video, rule):
    stream = make(model, rule, budget_tokens=160)
    for i in range(0, 80, 8):
        watch(stream, video, i, i + 7)
        stream.remember(f"What is number {i}?", "a red car")
        watch(stream, video, i + 7, i + 8)
        assert stream.cache.length <= 160
        assert stream.state.ledger.tokens == stream.cache.length
        assert stream.ask(QUESTION, max_new_tokens=2).token_ids is not None
    assert stream.evicted.times > 2


# --- failure ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_round_that_fails_at_once_changes_nothing(model, video, rule, monkeypatch):
    stream = make(model, rule)
    watch(stream, video, 0, 24)
    forgetting = type(stream._keeper._rule.forget(stream.state.ledger, 60))
    monkeypatch.setattr(forgetting, "keep", lambda *_: (_ for _ in ()).throw(ZeroDivisionError("broken")))
    for i in range(24, 40):
        stream.offer(video[i], i * 500_000_000)
    signature, waiting, evicted = stream.signature(), len(stream.pending), stream.evicted

    def encode_all() -> None:
        nonlocal signature, waiting, evicted
        while stream.encode_chunk():
            signature, waiting, evicted = stream.signature(), len(stream.pending), stream.evicted

    with pytest.raises(ZeroDivisionError):
        encode_all()
    assert (stream.signature(), len(stream.pending), stream.evicted) == (signature, waiting, evicted)
    monkeypatch.undo()
    while stream.encode_chunk():
        pass
    straight = make(model, rule)
    watch(straight, video, 0, 40)
    assert stream.signature() == straight.signature()


def test_a_round_that_fails_half_way_leaves_an_empty_stream_that_works(model, video, monkeypatch):
    stream = make(model)
    watch(stream, video, 0, 20)
    forget = Window.forget

    def half(self, ledger, goal):
        forgetting = forget(self, ledger, goal)
        keep = forgetting.keep
        forgetting.keep = lambda layer, k, v: keep(layer, k, v) if layer == 0 else 1 / 0
        return forgetting

    monkeypatch.setattr(Window, "forget", half)
    with pytest.raises(CacheError, match="division by zero"):
        watch(stream, video, 20, 60)
    monkeypatch.undo()
    assert (stream.frames, stream.cache.length, stream.resets) == (0, opening(stream), 1)
    watch(stream, video, 60, 80)
    fresh = make(model)
    watch(fresh, video, 60, 80)
    assert (first_logits(stream) - first_logits(fresh)).abs().max() < TOLERANCE


def test_room_is_made_when_memory_runs_out(model, video):
    stream = make(model, budget_tokens=200)
    watch(stream, video, 0, 60)
    before, length = stream.cache.memory_bytes, stream.cache.length
    stream.release()
    assert stream.cache.length <= length // 2
    assert stream.cache.memory_bytes <= before // 2
    watch(stream, video, 60, 80)
    assert stream.ask(QUESTION, max_new_tokens=2).token_ids is not None
    assert issubclass(MemoryFullError, Exception)
