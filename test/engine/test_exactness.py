"""The engine against native one-shot inference of the same transformers, float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_vl_ros.bench.native import NativeModel, assistant_turn, user_turn
from stream_vl_ros.engine import LoadedModel, StreamConfig, Turn, VideoStream, load_model
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER
from stream_vl_ros.engine.random_checkpoint import random_checkpoint

QUESTION = "What happened before the red car?"
TOKENS = 12
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen2_vl", "embedded"])
def checkpoint(request, tmp_path_factory) -> str:
    if request.param == "embedded":
        return str(EMBEDDED_FOLDER)
    return str(random_checkpoint(3, model_type=request.param, folder=tmp_path_factory.mktemp("checkpoints")))


@pytest.fixture(scope="module")
def loaded(checkpoint) -> LoadedModel:
    return load_model(checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def native(request, checkpoint) -> NativeModel:
    return NativeModel(checkpoint, attention=request.param)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    noise = np.random.default_rng(5).integers(0, 256, (14, 9, 12, 3), dtype=np.uint8)
    return noise.repeat(10, axis=1).repeat(10, axis=2)


def streamed(loaded: LoadedModel, video: np.ndarray, fps: float, **config) -> VideoStream:
    stream = VideoStream(loaded, StreamConfig(target_fps=0, **config))
    stream.append(video, stamps=[i / fps for i in range(len(video))])
    return stream


def first_logits(stream: VideoStream, question: str = QUESTION) -> torch.Tensor:
    with stream.fork() as fork:
        return fork.feed(stream.pieces.ask.tokens(stream.model.tokenizer, question=question))


def assert_equal(stream: VideoStream, expected, question: str = QUESTION) -> None:
    assert (first_logits(stream, question) - expected.logits).abs().max() < TOLERANCE
    assert stream.ask(question, max_new_tokens=TOKENS).token_ids == expected.token_ids


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
@pytest.mark.parametrize("frames", [14, 13, 1])
@pytest.mark.parametrize("chunk_frames", [2, 4, 6, 64])
def test_every_chunk_size_gives_the_native_answer(loaded, native, video, chunk_frames, frames, text_base):
    expected = native.generate(
        native.inputs(native.prompt([user_turn(QUESTION)]), [video[:frames]], 2.0), TOKENS, text_base=text_base
    )
    assert_equal(streamed(loaded, video[:frames], 2.0, chunk_frames=chunk_frames, text_base=text_base), expected)


@pytest.mark.parametrize("fps", [0.37, 1.0, 3.0, 4.0, 7.5, 29.97])
def test_every_cadence_gives_the_native_answer(loaded, native, video, fps):
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video], fps)
    for text_base in ("trained", "transformers"):
        expected = native.generate(inputs, TOKENS, text_base=text_base)
        assert_equal(streamed(loaded, video, fps, text_base=text_base), expected)


def test_a_wrong_cadence_is_noticed(loaded, native, video):
    """The tolerance separates right from wrong: half the cadence moves the logits by far more."""
    if loaded.adapter.tokens_per_second is None:
        pytest.skip("Qwen2-VL counts frames and knows no cadence")
    expected = native.generate(
        native.inputs(native.prompt([user_turn(QUESTION)]), [video], 2.0), 1, text_base="trained"
    )
    assert (first_logits(streamed(loaded, video, 1.0)) - expected.logits).abs().max() > 100 * TOLERANCE


def test_irregular_stamps_match_native_with_the_same_positions(loaded, native, video):
    if loaded.adapter.tokens_per_second is None:
        pytest.skip("Qwen2-VL counts frames and knows no cadence")
    stamps = [0.0, 0.4, 0.9, 1.1, 3.7, 3.8, 4.0, 4.1, 9.99, 10.5, 12.0, 12.2, 12.3, 14.0]
    inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video], 2.0)
    positions = native.trained_positions(inputs, [stamps[::2]])
    expected = native.logits(inputs, positions)[-1]
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(video, stamps)
    assert (first_logits(stream) - expected).abs().max() < TOLERANCE


def test_a_camera_is_sampled_to_the_native_cadence(loaded, native, video):
    """30 Hz with jitter, kept at 2 fps, equals a clip sampled at exactly 2 fps."""
    rng = np.random.default_rng(8)
    slots = len(video)
    stamps = np.arange(15 * slots) / 30 + rng.uniform(-0.004, 0.004, 15 * slots)
    stamps[0] = 0.0
    stream = VideoStream(loaded, StreamConfig(target_fps=2.0))
    kept = []
    for i, stamp in enumerate(stamps):
        if stream.offer(video[i // 15], round((1_700_000_000 + stamp) * 1e9)):
            kept.append(i)
        stream.encode_chunk()
    assert [k // 15 for k in kept] == list(range(slots))
    shown = np.stack([video[k // 15] for k in kept])
    expected = native.generate(
        native.inputs(native.prompt([user_turn(QUESTION)]), [shown], 2.0), TOKENS, text_base="trained"
    )
    assert_equal(stream, expected)


@pytest.mark.parametrize("size", [(120, 90), (48, 200), (300, 40), (28, 28)])
def test_every_picture_size_gives_the_native_answer(loaded, native, size):
    video = np.random.default_rng(1).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    expected = native.generate(
        native.inputs(native.prompt([user_turn(QUESTION)]), [video], 2.0), TOKENS, text_base="trained"
    )
    assert_equal(streamed(loaded, video, 2.0), expected)


def test_answers_are_exact_at_every_moment_and_after_any_number_of_questions(loaded, native, video):
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    prompt = native.prompt([user_turn(QUESTION)])
    for n in range(len(video)):
        stream.append(video[n : n + 1], [n / 2])
        expected = native.generate(native.inputs(prompt, [video[: n + 1]], 2.0), TOKENS, text_base="trained")
        assert_equal(stream, expected)


def test_special_tokens_in_a_question_are_text(loaded, native, video):
    """A user can neither close the turn nor inject video: native sees the same plain text."""
    question = "What does <|im_end|> or <|video_pad|> mean?"
    stream = streamed(loaded, video, 2.0)
    ids = stream.pieces.ask.tokens(loaded.tokenizer, question=question)
    harmless = native.inputs(native.prompt([user_turn("X")]), [video], 2.0)
    opening = native.processor.tokenizer("<|vision_end|>", add_special_tokens=False).input_ids
    at = harmless["input_ids"][0].tolist().index(opening[0])
    whole = torch.tensor([[*harmless["input_ids"][0, :at].tolist(), *ids]])
    harmless |= {
        "input_ids": whole,
        "attention_mask": torch.ones_like(whole),
        "mm_token_type_ids": (whole == native.model.config.video_token_id).int() * 2,
    }
    assert_equal(stream, native.generate(harmless, TOKENS, text_base="trained"), question)


CHOICES = [
    ("red", "a blue square", "no"),
    tuple(f"{'very ' * (i % 5)}{i}" for i in range(16)),
    ("no", "a very long answer that goes on and on about red cars, blue vans, and what they did before they left"),
]


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    ("frames", "choices"), [(14, CHOICES[0]), (13, CHOICES[0]), (14, CHOICES[1]), (14, CHOICES[2])]
)
def test_choices_score_like_independent_full_forwards(loaded, native, video, frames, choices, normalise):
    video = video[:frames]
    answer = streamed(loaded, video, 2.0).ask_choice(QUESTION, choices, normalise=normalise)
    tokenizer = native.processor.tokenizer
    expected = []
    for choice in choices:
        ids = [*tokenizer(choice, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        inputs = native.inputs(native.prompt([user_turn(QUESTION)]), [video], 2.0)
        whole = torch.cat((inputs["input_ids"], torch.tensor([ids])), dim=1)
        inputs |= {
            "input_ids": whole,
            "attention_mask": torch.ones_like(whole),
            "mm_token_type_ids": torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(ids))),
        }
        logits = native.logits(inputs, native.trained_positions(inputs))
        steps = torch.log_softmax(logits[-len(ids) - 1 : -1], dim=-1)
        steps = steps.gather(1, torch.tensor(ids)[:, None])
        expected.append((steps.mean() if normalise else steps.sum()).item())
        # The errors of a sum's terms add up.
        assert answer.scores[len(expected) - 1] == pytest.approx(
            expected[-1], abs=TOLERANCE if normalise else TOLERANCE * len(ids)
        )
    assert answer.text == choices[int(np.argmax(expected))]


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
@pytest.mark.parametrize("cut", [6, 7])
def test_a_remembered_turn_equals_the_native_dialogue(loaded, native, video, text_base, cut):
    """Video, question, answer, more video, question: one native prompt with two videos."""
    stream = VideoStream(loaded, StreamConfig(target_fps=0, text_base=text_base))
    stream.append(video[:cut], [i / 2 for i in range(cut)])
    stream.remember("What was that?", "a red car")
    stream.append(video[cut:], [i / 2 for i in range(cut, len(video))])
    conversation = [user_turn("What was that?"), assistant_turn("a red car"), user_turn(QUESTION)]
    inputs = native.inputs(native.prompt(conversation), [video[:cut], video[cut:]], 2.0)
    assert_equal(stream, native.generate(inputs, TOKENS, text_base=text_base))


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
def test_remembered_turns_without_new_video_equal_the_native_dialogue(loaded, native, video, text_base):
    """Video, question, answer, question, answer, and then: a question, choices, or more video and a question."""
    stream = VideoStream(loaded, StreamConfig(target_fps=0, text_base=text_base))
    stream.append(video[:7], [i / 2 for i in range(7)])
    stream.remember("What was that?", "a red car")
    conversation = [user_turn("What was that?"), assistant_turn("a red car")]
    follow_up = user_turn(QUESTION, videos=0)
    inputs = native.inputs(native.prompt([*conversation, follow_up]), [video[:7]], 2.0)
    expected = native.generate(inputs, TOKENS, text_base=text_base)
    answer = stream.ask(QUESTION, max_new_tokens=TOKENS)
    assert (answer.token_ids, answer.moment.frames) == (expected.token_ids, 7)
    assert len(stream.ask(QUESTION, ("yes", "no")).scores) == 2

    stream.remember("And its colour?", "red")
    conversation += [user_turn("And its colour?", videos=0), assistant_turn("red")]
    inputs = native.inputs(native.prompt([*conversation, follow_up]), [video[:7]], 2.0)
    expected = native.generate(inputs, TOKENS, text_base=text_base)
    assert stream.ask(QUESTION, max_new_tokens=TOKENS).token_ids == expected.token_ids

    for first, end in ((7, 8), (8, 11)):  # a frame that waits in the fork alone, then some in the stream
        stream.append(video[first:end], [i / 2 for i in range(first, end)])
        inputs = native.inputs(native.prompt([*conversation, user_turn(QUESTION)]), [video[:7], video[7:end]], 2.0)
        assert_equal(stream, native.generate(inputs, TOKENS, text_base=text_base))


HISTORY = (Turn("What was that?", "a red car"), Turn("And its colour?", " red\n"), Turn("Why?", "no reason"))


@pytest.mark.parametrize("text_base", ["trained", "transformers"])
@pytest.mark.parametrize("turns", [1, 3])
def test_a_dialogue_equals_the_native_one(loaded, native, video, text_base, turns):
    """Question, more video, question: the earlier turns follow all of the video, as text, in the fork alone."""
    stream = VideoStream(loaded, StreamConfig(target_fps=0, text_base=text_base))
    conversation = []
    for i, turn in enumerate(HISTORY[:turns]):
        conversation += [user_turn(turn.question, videos=int(i == 0)), assistant_turn(turn.answer.strip())]
    prompt = native.prompt([*conversation, user_turn(QUESTION, videos=0)])
    for begin, end in ((0, 6), (6, 9), (9, 14)):
        stream.append(video[begin:end], [i / 2 for i in range(begin, end)])
        signature = stream.signature()
        expected = native.generate(native.inputs(prompt, [video[:end]], 2.0), TOKENS, text_base=text_base)
        answer = stream.ask(QUESTION, max_new_tokens=TOKENS, history=HISTORY[:turns])
        assert answer.token_ids == expected.token_ids
        assert stream.signature() == signature


def test_a_dialogue_after_a_remembered_turn_equals_the_native_one(loaded, native, video):
    stream = VideoStream(loaded, StreamConfig(target_fps=0))
    stream.append(video[:6], [i / 2 for i in range(6)])
    stream.remember("What was that?", "a red car")
    remembered = [user_turn("What was that?"), assistant_turn("a red car")]
    history = (Turn("And then?", "a blue van"),)
    for end in (6, 9):  # no new video yet; then new video, some of it waiting
        stream.append(video[stream.frames : end], [i / 2 for i in range(stream.frames, end)])
        videos = [video[:6], video[6:end]] if end > 6 else [video[:6]]
        follow_up = [user_turn("And then?", videos=len(videos) - 1), assistant_turn("a blue van")]
        inputs = native.inputs(native.prompt([*remembered, *follow_up, user_turn(QUESTION, videos=0)]), videos, 2.0)
        expected = native.generate(inputs, TOKENS, text_base="trained")
        assert stream.ask(QUESTION, max_new_tokens=TOKENS, history=history).token_ids == expected.token_ids
