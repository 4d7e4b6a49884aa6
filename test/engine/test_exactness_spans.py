"""Video whose time jumped, against native inference over as many videos in one message, float32."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from stream_vl_ros.bench.native import NativeModel, assistant_turn, user_turn
from stream_vl_ros.engine import LoadedModel, StreamConfig, Turn, VideoStream, load_model
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER
from stream_vl_ros.engine.random_checkpoint import random_checkpoint

QUESTION = "What happened before the red car?"
TOKENS = 8
TOLERANCE = 1e-4
FPS = 2.0
# Where the clock of each span begins, in seconds: back, ahead, back again by little.
ORIGINS = (1000.0, 3.0, 90_000.0, 89_000.0)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen2_vl", "embedded"])
def checkpoint(request, tmp_path_factory) -> str:
    if request.param == "embedded":
        return str(EMBEDDED_FOLDER)
    return str(random_checkpoint(3, model_type=request.param, folder=tmp_path_factory.mktemp("checkpoints")))


@pytest.fixture(scope="module")
def loaded(checkpoint) -> LoadedModel:
    return load_model(checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def native(checkpoint) -> NativeModel:
    return NativeModel(checkpoint)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    noise = np.random.default_rng(5).integers(0, 256, (16, 6, 9, 3), dtype=np.uint8)
    return noise.repeat(10, axis=1).repeat(10, axis=2)


def stamped(lengths: tuple[int, ...]) -> list[float]:
    """Stamps of spans of so many frames."""
    return [origin + i / FPS for origin, length in zip(ORIGINS, lengths, strict=False) for i in range(length)]


def cut(video: np.ndarray, lengths: tuple[int, ...]) -> list[np.ndarray]:
    ends = [0, *itertools.accumulate(lengths)]
    return [video[a:b] for a, b in itertools.pairwise(ends)]


def assert_equal(stream: VideoStream, expected, question: str = QUESTION) -> None:
    with stream.fork() as fork:
        logits = fork.feed(fork.ask.tokens(stream.model.tokenizer, question=question))
    assert (logits - expected.logits).abs().max() < TOLERANCE
    assert stream.ask(question, max_new_tokens=TOKENS).token_ids == expected.token_ids


def two_videos(native: NativeModel, videos: list[np.ndarray], text_base: str):
    inputs = native.inputs(native.prompt([user_turn(QUESTION, videos=len(videos))]), videos, FPS)
    return native.generate(inputs, TOKENS, text_base=text_base)


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
@pytest.mark.parametrize("lengths", [(8, 6), (7, 6), (7, 5), (1, 1), (3, 1, 5, 2)])
@pytest.mark.parametrize("chunk_frames", [1, 2, 3, 4, 5, 6])
def test_spans_are_videos_of_one_message(loaded, native, video, chunk_frames, lengths, text_base):
    stream = VideoStream(loaded, StreamConfig(target_fps=0, chunk_frames=chunk_frames, text_base=text_base))
    stream.append(video[: sum(lengths)], stamped(lengths))
    assert (stream.jumps.back, stream.jumps.gaps) == {2: (1, 0), 4: (2, 1)}[len(lengths)]
    assert_equal(stream, two_videos(native, cut(video, lengths), text_base))


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
def test_every_moment_around_a_jump_is_exact(loaded, native, video, text_base):
    """Frames of the old span that wait, a first one of the new span that waits alone, and so on."""
    lengths = (5, 6)
    stream = VideoStream(loaded, StreamConfig(target_fps=0, text_base=text_base))
    for n, stamp in enumerate(stamped(lengths), 1):
        stream.append(video[n - 1 : n], [stamp])
        videos = [v for v in (video[: min(n, 5)], video[5:n]) if len(v)]
        expected = two_videos(native, videos, text_base)
        assert_equal(stream, expected)
        with stream.fork() as fork:
            seen = fork.moment
        assert (seen.frames, seen.first_stamp_ns, seen.last_stamp_ns) == (n, 1000 * 10**9, round(stamp * 1e9))


def test_a_span_that_is_not_told_apart_is_noticed(loaded, native, video):
    """The tolerance separates right from wrong: one video instead of two moves the logits by far more."""
    stream = VideoStream(loaded, StreamConfig(target_fps=0, on_time_jump="continue"))
    stream.append(video[:12], stamped((8, 4)))
    with stream.fork() as fork:
        logits = fork.feed(fork.ask.tokens(loaded.tokenizer, question=QUESTION))
    wrong = two_videos(native, cut(video, (8, 4)), "trained")
    assert (logits - wrong.logits).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_jump_after_a_remembered_turn(loaded, native, video, text_base, odd):
    """Video, question, answer, video, jump, video, question."""
    first, second = 4 + odd, 3
    stream = VideoStream(loaded, StreamConfig(target_fps=0, text_base=text_base))
    stream.append(video[:first], [i / FPS for i in range(first)])
    stream.remember("What was that?", "a red car")
    stream.append(video[first : first + second], [(first + i) / FPS for i in range(second)])
    stream.append(video[first + second : 12], [7_000 + i / FPS for i in range(12 - first - second)])
    conversation = [user_turn("What was that?"), assistant_turn("a red car"), user_turn(QUESTION, videos=2)]
    videos = [video[:first], video[first : first + second], video[first + second : 12]]
    expected = native.generate(native.inputs(native.prompt(conversation), videos, FPS), TOKENS, text_base=text_base)
    assert_equal(stream, expected)


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
def test_a_jump_right_behind_a_remembered_turn_needs_no_border(loaded, native, video, text_base):
    """And a turn that is remembered right behind a jump, while frames of both spans wait."""
    stream = VideoStream(loaded, StreamConfig(target_fps=0, text_base=text_base, chunk_frames=16))
    stream.append(video[:3], stamped((3,)))
    for picture, stamp in zip(video[3:6], stamped((0, 3)), strict=True):
        stream.offer(picture, round(stamp * 1e9))
    assert (stream.frames, len(stream.pending)) == (0, 6)
    stream.remember("What was that?", "a red car")
    assert (stream.frames, len(stream.pending)) == (6, 0)
    stream.append(video[6:11], stamped((0, 0, 5)))
    conversation = [user_turn("What was that?", videos=2), assistant_turn("a red car"), user_turn(QUESTION)]
    videos = [video[:3], video[3:6], video[6:11]]
    expected = native.generate(native.inputs(native.prompt(conversation), videos, FPS), TOKENS, text_base=text_base)
    assert_equal(stream, expected)


def test_a_dialogue_over_two_spans(loaded, native, video):
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(video[:12], stamped((7, 5)))
    conversation = [user_turn("And then?", videos=2), assistant_turn("a van"), user_turn(QUESTION, videos=0)]
    inputs = native.inputs(native.prompt(conversation), cut(video, (7, 5)), FPS)
    expected = native.generate(inputs, TOKENS, text_base="trained")
    answer = stream.ask(QUESTION, max_new_tokens=TOKENS, history=(Turn("And then?", "a van"),))
    assert answer.token_ids == expected.token_ids


def test_forks_from_before_the_jump_live_on(loaded, native, video):
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(video[:7], stamped((7,)))
    old = two_videos(native, [video[:7]], "trained")
    fork = stream.fork()
    stream.append(video[7:12], stamped((0, 5)))
    logits = fork.feed(fork.ask.tokens(loaded.tokenizer, question=QUESTION))
    assert (logits - old.logits).abs().max() < TOLERANCE
    assert_equal(stream, two_videos(native, cut(video, (7, 5)), "trained"))


def test_questions_around_a_jump_leave_no_trace(loaded, video):
    quiet, busy = (VideoStream(loaded, StreamConfig(target_fps=0)) for _ in range(2))
    for i, stamp in enumerate(stamped((5, 3, 1, 5))):
        for one in (quiet, busy):
            one.append(video[i : i + 1], [stamp])
        busy.ask(QUESTION, max_new_tokens=2)
    assert busy.signature() == quiet.signature()


@pytest.mark.parametrize("waiting", [True, False])
def test_a_snapshot_on_either_side_of_a_jump(loaded, native, video, waiting):
    """The first frame of a span that waits alone may be lost to a memory that keeps whole chunks only."""
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(video[:6], stamped((5, 1)))
    moment = stream.snapshot()
    if not waiting:
        moment = replace(moment, pending=())
    stream.append(video[6:12], [ORIGINS[1] + (1 + i) / FPS for i in range(6)])
    stream.restore(moment)
    stream.append(video[6:12], [ORIGINS[1] + (1 + i) / FPS for i in range(6)])
    second = video[5:12] if waiting else video[6:12]
    assert_equal(stream, two_videos(native, [video[:5], second], "trained"))


@pytest.mark.parametrize("fps", [2.0, 7.5])
def test_a_recording_that_loops_may_go_on_as_one_video(loaded, native, video, fps):
    stream = VideoStream(loaded, StreamConfig(target_fps=fps, on_time_jump="continue"))
    loop = [i / fps for i in range(4)]
    stream.append(video[:15], (loop * 4)[:15])
    assert (stream.jumps.back, stream.jumps.gaps) == (3, 0)
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video[:15]], fps)
    assert_equal(stream, native.generate(inputs, TOKENS, text_base="trained"))


def test_a_gap_may_stay_in_the_video_at_its_true_distance(loaded, native, video):
    if loaded.adapter.tokens_per_second is None:
        pytest.skip("Qwen2-VL counts frames and knows no cadence")
    stream = VideoStream(loaded, StreamConfig(target_fps=0, on_time_jump="continue", max_gap=5.0))
    stamps = [0.0, 0.5, 1.0, 1.5, 21.7, 22.2, 22.7, 23.2]
    stream.append(video[:8], stamps)
    assert (stream.jumps.back, stream.jumps.gaps) == (0, 1)
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video[:8]], FPS)
    expected = native.logits(inputs, native.trained_positions(inputs, [stamps[::2]]))[-1]
    with stream.fork() as fork:
        logits = fork.feed(fork.ask.tokens(loaded.tokenizer, question=QUESTION))
    assert (logits - expected).abs().max() < TOLERANCE


def test_a_gap_beyond_all_positions_is_left_out(loaded, native, video):
    stream = VideoStream(loaded, StreamConfig(target_fps=FPS, on_time_jump="continue"))
    stream.append(video[:5], [0.0, 0.5, 1.0, 1.5, 2.0])
    stream.append(video[5:12], [1.7e9 + i / FPS for i in range(7)])
    if loaded.adapter.tokens_per_second is not None:
        inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video[:12]], FPS)
        assert_equal(stream, native.generate(inputs, TOKENS, text_base="trained"))
    assert torch.isfinite(stream.fork().feed([5])).all()
