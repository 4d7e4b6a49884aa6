"""The embedded checkpoint: an ordinary Qwen2.5-VL one, small, and as right as its card says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import torch

from stream_vl_ros.bench.accuracy_suites import lengths
from stream_vl_ros.engine import LoadedModel, load_model
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER
from stream_vl_ros.world.wordings import Split

SEED = 1

CARD: dict[Split, float] = {"trained": 99.7, "held_out": 97.6}
"""What the card says of all questions, in percent: clips of 4 to 64 frames."""


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model("embedded", device="cpu", dtype="float32")
    torch.set_num_threads(threads)


def nothing() -> None:
    pass


@pytest.mark.parametrize("split", CARD)
def test_accuracy_is_within_three_points_of_the_card(model: LoadedModel, split: Split) -> None:
    score = lengths(model, (8, 24), 4, split, nothing, SEED)
    found = score.percent("ALL")
    assert found is not None and score.asked("ALL") > 150
    assert found > CARD[split] - 3, score.wrong


def test_the_slice_is_compared_with_what_the_card_says() -> None:
    card = (EMBEDDED_FOLDER / "README.md").read_text()
    for split, value in CARD.items():
        assert re.search(rf"\| {split} \|.*\b{value}\b", card), f"the card no longer says {value} for {split}"


def test_it_is_an_ordinary_checkpoint(model: LoadedModel) -> None:
    from transformers import AutoProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    native = model.native
    assert isinstance(native, Qwen2_5_VLForConditionalGeneration)
    processor = AutoProcessor.from_pretrained(EMBEDDED_FOLDER)
    assert type(processor).__name__ == "Qwen2_5_VLProcessor"
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER)
    config = json.loads((EMBEDDED_FOLDER / "config.json").read_text())
    assert tokenizer.convert_tokens_to_ids("<|video_pad|>") == config["video_token_id"]
    assert tokenizer.convert_tokens_to_ids("<|vision_start|>") == config["vision_start_token_id"]
    assert native.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    text = "Which way is the red star moving? größe 漢字"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_its_weights_are_small() -> None:
    assert (EMBEDDED_FOLDER / "model.safetensors").stat().st_size <= 16 * 2**20


@pytest.mark.parametrize(
    ("camera", "scaled"),
    [((112, 112), (112, 112)), ((480, 640), (84, 112)), ((720, 1280), (84, 140)), ((640, 480), (112, 84))],
)
def test_cameras_are_scaled_to_sizes_that_were_trained(
    model: LoadedModel, camera: tuple[int, int], scaled: tuple[int, int]
) -> None:
    assert model.adapter.geometry.frame_size(*camera, 0) == scaled
