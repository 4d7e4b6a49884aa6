"""Whatever the video, the chunks, the moments and the settings: the native answer, float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from stream_vl_ros.bench.exactness_cases import CADENCES, Case, agrees, compare, referable
from stream_vl_ros.bench.native import NativeModel
from stream_vl_ros.engine import LoadedModel, load_model
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER
from stream_vl_ros.engine.random_checkpoint import random_checkpoint

TOLERANCE = 1e-4
TOKENS = 6
QUESTIONS = (
    "What is visible now?",
    "What appeared before the red circle?",
    "Say <|im_end|> and <|video_pad|>!",  # text, not tokens
    "x",
    "Wie spät ist es? \U0001f600\n\tNow.",
)
SIZES = ((56, 84), (112, 112), (84, 56), (60, 90), (28, 28), (45, 130))
"""Height and width; some are no multiples of 28 and are resized."""


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen2_vl", "embedded"])
def folder(request, tmp_path_factory) -> str:
    if request.param == "embedded":
        return str(EMBEDDED_FOLDER)
    return str(random_checkpoint(3, model_type=request.param, folder=tmp_path_factory.mktemp("checkpoints")))


@pytest.fixture(scope="module")
def model(folder) -> LoadedModel:
    return load_model(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def native(request, folder) -> NativeModel:
    return NativeModel(folder, attention=request.param)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    frames = draw(st.integers(1, 13))
    height, width = draw(st.sampled_from(SIZES))
    # Blocks of one colour: noise alone looks alike to a vision tower.
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    blocks = rng.integers(0, 256, (frames, -(-height // 15), -(-width // 15), 3), dtype=np.uint8)
    pictures = blocks.repeat(15, axis=1).repeat(15, axis=2)[:, :height, :width]
    fps = draw(st.sampled_from((*CADENCES, 0.0, 0.0, 0.0)))
    if fps:
        stamps = [i / fps for i in range(frames)]
    else:
        gaps = draw(st.lists(st.integers(1, 4_000), min_size=frames, max_size=frames))
        stamps = [sum(gaps[:i]) / 1000 for i in range(frames)]
    moments = sorted(draw(st.sets(st.integers(1, frames), min_size=1, max_size=3)))
    return Case(
        pictures=pictures,
        fps=fps,
        stamps=tuple(stamps),
        chunk_frames=draw(st.integers(1, 9)),
        # Positions of irregular cadence have to be told to native inference, as trained ones are.
        text_base=draw(st.sampled_from(["trained", "transformers"])) if fps else "trained",
        moments=tuple((m, draw(st.sampled_from(QUESTIONS))) for m in moments),
    )


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(case=cases())
def test_the_stream_gives_the_native_answer(model, native, case):
    rate = model.adapter.tokens_per_second
    assume(case.fps == 0 or agrees(case.fps, len(case.pictures), rate))
    assume(case.fps or rate)  # Qwen2-VL knows no cadence
    for pair in compare(model, native, referable(model, case), TOKENS):
        assert pair.difference < TOLERANCE, f"{case}: at {pair.frames} frames"
        assert pair.same, f"{case}: {pair.answer} is not {pair.expected.token_ids}, margin {pair.margin:.2g}"


def test_every_cadence_has_a_reference():
    """Where transformers' float32 falls short of exact arithmetic is late, and at few of the cadences."""
    assert all(agrees(fps, 13, 2) for fps in CADENCES)
    assert not agrees(2.3, 200, 2)


def test_a_release_that_misplaces_time_is_no_reference(monkeypatch):
    """As releases up to 5.17 do: seconds per pair of frames are cut to whole ones."""
    model = load_model("embedded", device="cpu", dtype="float32")
    pictures = np.zeros((8, 28, 28, 3), np.uint8)
    case = Case(pictures, 5.0, tuple(i / 5 for i in range(8)), 4, "transformers", ((8, "x"),))
    assert referable(model, case) is case
    real = model.native.model.get_rope_index

    def cut(*args, second_per_grid_ts, **kwargs):
        return real(*args, second_per_grid_ts=second_per_grid_ts.long().float(), **kwargs)

    monkeypatch.setattr(model.native.model, "get_rope_index", cut)
    assert referable(model, case).text_base == "trained"
    slow = Case(pictures, 1.0, tuple(float(i) for i in range(8)), 4, "transformers", ((8, "x"),))
    assert referable(model, slow) is slow
