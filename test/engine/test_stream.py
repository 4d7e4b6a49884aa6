"""A stream: isolation of forks, snapshots, waiting frames, bad frames."""

from __future__ import annotations

import numpy as np
import pytest

from stream_vl_ros.engine import StreamConfig, VideoStream
from stream_vl_ros.errors import FrameError, NoVideoError, PromptError

QUESTION = "What is it?"


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (16, 60, 80, 3), dtype=np.uint8)


@pytest.fixture
def stream(loaded) -> VideoStream:
    return VideoStream(loaded, StreamConfig(target_fps=0))


def stamps(n: int, start: int = 0) -> list[float]:
    return [0.5 * i for i in range(start, start + n)]


def test_questions_leave_the_cache_bit_identical(stream, video):
    stream.append(video[:7], stamps(7))
    before = stream.signature()
    first = stream.ask(QUESTION, max_new_tokens=20)
    assert stream.ask(QUESTION, ("yes", "no")).scores
    assert stream.signature() == before
    assert stream.ask(QUESTION, max_new_tokens=20).token_ids == first.token_ids


def test_a_stream_that_was_asked_ends_bit_identical_to_one_that_was_not(loaded, video):
    """Not even chunk borders depend on questions."""
    quiet, busy = (VideoStream(loaded, StreamConfig(target_fps=0, chunk_frames=6)) for _ in range(2))
    for i in range(len(video)):
        for one in (quiet, busy):
            one.append(video[i : i + 1], stamps(1, i))
        busy.ask(QUESTION, max_new_tokens=3)
    assert busy.signature() == quiet.signature()


def test_a_fork_answers_from_its_moment_whatever_the_stream_does(stream, video):
    stream.append(video[:8], stamps(8))
    ids = stream.pieces.ask.tokens(stream.model.tokenizer, question=QUESTION)
    alone, fork = stream.fork(), stream.fork()
    expected = [int(alone.feed(ids).argmax())]
    for _ in range(8):
        expected.append(int(alone.feed(expected[-1:]).argmax()))
    written = [int(fork.feed(ids).argmax())]
    for i in range(8, 16):  # the stream grows, and is forgotten, while the fork writes
        stream.append(video[i : i + 1], stamps(1, i))
        if i == 12:
            stream.reset()
        written.append(int(fork.feed(written[-1:]).argmax()))
    assert written == expected and len(set(written)) > 1


def test_forks_of_forks(stream, video):
    stream.append(video[:5], stamps(5))
    ids = stream.pieces.ask.tokens(stream.model.tokenizer, question=QUESTION)
    with stream.fork() as one:
        logits = one.feed(ids)
        with one.fork() as two, one.fork() as three:
            a = two.feed([5, 6, 7])
            three.feed([9])
            b = three.feed([11])
            assert not np.allclose(a.cpu(), b.cpu())
        again = one.fork().feed([5, 6, 7])
        assert (again - a).abs().max() < 1e-5
    with stream.fork() as fresh:
        assert (fresh.feed(ids) - logits).abs().max() == 0


def test_a_closed_fork_cannot_be_used(stream, video):
    stream.append(video[:4], stamps(4))
    with stream.fork() as fork:
        logits = fork.feed([5])
    assert fork.cache.own_bytes == 0
    for use in (lambda: fork.feed([5]), lambda: fork.score(logits, [[5]]), fork.fork):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_the_callers_buffer_may_be_used_again(stream, video):
    one = video[:3].copy()
    stream.append(one, stamps(3))
    one[:] = 0
    assert (stream.pending[-1].pixels == video[2]).all()


def test_a_question_sees_the_frames_that_wait_for_their_chunk(stream, video):
    stream.append(video[:4], stamps(4))
    answer = stream.ask(QUESTION, max_new_tokens=1)
    assert (answer.moment.frames, answer.moment.last_stamp_ns) == (4, 1_500_000_000)
    stream.append(video[4:7], stamps(3, 4))
    assert (stream.frames, len(stream.pending)) == (4, 3)
    answer = stream.ask(QUESTION, max_new_tokens=1)
    assert (answer.moment.frames, answer.moment.first_stamp_ns, answer.moment.last_stamp_ns) == (7, 0, 3_000_000_000)
    assert (stream.frames, len(stream.pending)) == (4, 3)


def test_flush_encodes_whole_pairs_only(stream, video):
    stream.append(video[:3], stamps(3))
    assert stream.flush().frames == 2
    assert (stream.frames, len(stream.pending)) == (2, 1)
    assert stream.flush() is None


@pytest.mark.parametrize("chunk_frames", [1, 2, 3, 5])
def test_odd_chunk_sizes_never_double_a_frame_in_the_stream(loaded, video, chunk_frames):
    stream = VideoStream(loaded, StreamConfig(target_fps=0, chunk_frames=chunk_frames))
    stream.append(video[:9], stamps(9))
    stream.flush()
    assert (stream.frames, len(stream.pending)) == (8, 1)
    tokens = stream.state.segment.tokens_per_patch
    assert stream.cache.length == stream.state.segment.start + 4 * tokens


def test_snapshot_and_restore(stream, video):
    stream.append(video[:6], stamps(6))
    moment, signature = stream.snapshot(), stream.signature()
    before = stream.ask(QUESTION, max_new_tokens=8)
    ids = stream.pieces.ask.tokens(stream.model.tokenizer, question=QUESTION)
    expected = stream.fork().feed(ids)
    fork = stream.fork()
    stream.append(video[6:12], stamps(6, 6))
    stream.remember(QUESTION, "a car")
    assert stream.signature() != signature
    stream.restore(moment)
    assert stream.signature() == signature
    stream.append(video[12:14], stamps(2, 6))  # writes over the forgotten frames, not under the fork
    assert (fork.feed(ids) - expected).abs().max() == 0
    stream.restore(moment)
    assert stream.ask(QUESTION, max_new_tokens=8).token_ids == before.token_ids


def test_reset_forgets_everything(stream, video, loaded):
    empty = stream.signature()
    stream.append(video[:5], stamps(5))
    stream.reset()
    assert stream.signature() == empty
    assert (stream.frames, stream.pending, stream.frame_size) == (0, (), None)
    stream.append(video[:4], stamps(4))  # stamps may start over


def test_no_video_is_said_so(stream):
    with pytest.raises(NoVideoError, match="not one frame"):
        stream.ask(QUESTION)
    with pytest.raises(NoVideoError):
        stream.remember(QUESTION, "a car")


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(stream, video, question):
    stream.append(video[:2], stamps(2))
    with pytest.raises(PromptError, match="empty"):
        stream.ask(question)


@pytest.mark.parametrize("choices", [[""], ["a"], ["a", " "], ["a", "a "]])
def test_unusable_choices_are_refused(stream, video, choices):
    stream.append(video[:2], stamps(2))
    with pytest.raises(PromptError, match="choices="):
        stream.ask_choice(QUESTION, choices)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((0, 4, 3), np.uint8), "zero_size"),
        (np.zeros((4, 4), np.uint8), "bad_array"),
        (np.zeros((4, 4, 3), np.float32), "bad_array"),
        (np.zeros((2, 900, 3), np.uint8), "aspect_ratio"),
    ],
)
def test_a_bad_picture_changes_nothing(stream, video, picture, reason):
    stream.append(video[:3], stamps(3))
    signature = stream.signature()
    with pytest.raises(FrameError) as caught:
        stream.append([picture], [1.5])
    assert caught.value.reason == reason
    assert (stream.signature(), len(stream.pending)) == (signature, 3)
    stream.append(video[3:4], [1.5])  # its place is still free
    assert stream.frames == 4


def test_a_backward_stamp_changes_nothing(stream, video):
    stream.append(video[:4], stamps(4))
    for late in (1.5, 0.6):
        with pytest.raises(FrameError, match="not later"):
            stream.append(video[4:5], [late])
    stream.append(video[4:6], [2.0, 2.5])
    assert stream.state.last_stamp_ns == 1_500_000_000 and len(stream.pending) == 2


def test_a_change_of_resolution_is_scaled_to_the_first(stream, video):
    stream.append(video[:2], stamps(2))
    size = stream.frame_size
    stream.append(np.zeros((2, 120, 200, 3), np.uint8), stamps(2, 2))
    assert stream.frame_size == size and stream.frames == 4


def test_frames_and_stamps_must_pair_up(stream, video):
    with pytest.raises(ValueError, match="2 frames but 1 stamps"):
        stream.append(video[:2], [0.0])


def test_a_failed_chunk_leaves_the_stream_as_it_was(stream, video):
    stream.append(video[:4], stamps(4))
    signature = stream.signature()
    hook = failing(stream.model.native.model.language_model.layers[-1])
    with pytest.raises(MemoryError):
        stream.append(video[4:8], stamps(4, 4))
    hook.remove()
    assert stream.signature() == signature and len(stream.pending) == 4
    assert stream.flush().frames == 4


def failing(module):
    """Makes a part of the model fail until `.remove()` is called on what this returns."""
    return module.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError("no memory")))


def test_a_turn_that_cannot_be_remembered_changes_nothing(stream, video):
    stream.append(video[:7], stamps(7))
    signature = stream.signature()
    calls = []
    layer = stream.model.native.model.language_model.layers[-1]

    def fail_the_second_time(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:  # the waiting frames are encoded by then
            raise MemoryError("no memory")

    hook = layer.register_forward_pre_hook(fail_the_second_time)
    with pytest.raises(MemoryError):
        stream.remember(QUESTION, "a car")
    hook.remove()
    assert (stream.signature(), stream.frames, len(stream.pending)) == (signature, 4, 3)
    stream.append(video[7:8], stamps(1, 7))
    assert stream.frames == 8


def test_a_reset_that_fails_changes_nothing(stream, video):
    stream.append(video[:7], stamps(7))
    signature = stream.signature()
    hook = failing(stream.model.native.model.language_model.layers[-1])
    with pytest.raises(MemoryError):
        stream.reset()
    hook.remove()
    assert (stream.signature(), len(stream.pending)) == (signature, 3)


def test_a_snapshot_outlives_a_reset(stream, video):
    stream.append(video[:7], stamps(7))
    moment, signature = stream.snapshot(), stream.signature()
    answer = stream.ask(QUESTION).token_ids
    stream.reset()
    stream.append(video[8:12], stamps(4))
    stream.restore(moment)
    assert (stream.signature(), len(stream.pending), stream.frames) == (signature, 3, 4)
    assert stream.ask(QUESTION).token_ids == answer
    stream.append(video[7:8], stamps(1, 7))
    straight = VideoStream(stream.model, stream.config)
    straight.append(video[:8], stamps(8))
    assert stream.signature() == straight.signature()


def test_questions_and_choices_have_a_limit(stream, video):
    stream.append(video[:2], stamps(2))
    with pytest.raises(PromptError, match="tokens: at most"):
        stream.ask("Why? " * 2000)
    with pytest.raises(PromptError, match="choices: at most"):
        stream.ask_choice(QUESTION, [str(i) for i in range(65)])
    with pytest.raises(PromptError, match="list of choices"):
        stream.ask_choice(QUESTION, ["a" * 1500, "b" * 1500])


def test_the_cache_grows_by_what_a_frame_costs(loaded, video):
    stream = VideoStream(loaded, StreamConfig(target_fps=0, initial_capacity=4096))
    per_token = loaded.adapter.cache_shape.bytes_per_token
    assert stream.cache.memory_bytes == 4096 * per_token
    before = stream.cache.length
    (report,) = stream.append(video[:4], stamps(4))
    height, width = stream.frame_size
    assert report.tokens == stream.cache.length - before == 2 * (height // 28) * (width // 28)
    assert stream.cache.memory_bytes == 4096 * per_token
