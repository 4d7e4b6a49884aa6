"""The embedded checkpoint: an ordinary Qwen2.5-VL one, small, and as right as its card says."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator

import pytest
import torch

from stream_vl_ros.bench.accuracy_score import Score
from stream_vl_ros.bench.accuracy_suites import lengths, scored_choices
from stream_vl_ros.engine import LoadedModel, load_model
from stream_vl_ros.engine.loader import EMBEDDED_FOLDER
from stream_vl_ros.world.wordings import Split

SEED = 1

CARD = (EMBEDDED_FOLDER / "README.md").read_text()

COLUMNS: dict[Split, str] = {"trained": "all", "held_out": "held-out wordings"}
"""Column of the card's table by wordings."""

GROUPS: dict[str, dict[str, str]] = {
    "present": {
        "color_of_shape": "colour of a shape",
        "shape_of_color": "shape of a colour",
        "visible": "visible now (list)",
        "count": "count",
        "count_attr": "count of a colour, shape, both",
        "exists": "is there a ...",
        "where": "where",
        "direction": "direction",
    },
    "memory": {
        "first": "first to appear",
        "last": "last to appear",
        "before": "before ...",
        "after": "after ...",
        "ever": "ever seen",
        "gone": "last to disappear",
        "still_there": "still there?",
        "left_view": "gone?",
        "color_change": "colour change",
    },
    "time": {
        "when +-1 s": "second of appearance, within 1 s",
        "ago +-1 s": "how long ago, within 1 s",
    },
    "everything": {"ALL": "all"},
}
"""Kinds of questions that break together, each with its row of the card's table."""

CHOICES = "multiple choice, options scored by the engine"


def cells(line: str) -> list[str]:
    return [cell.strip(" *") for cell in line.strip("|").split("|")]


def carded(row: str, column: str) -> float:
    """Percent right by the card, of all clips from 4 to 64 frames."""
    header = next(cells(line) for line in CARD.splitlines() if line.startswith("| question |"))
    (found,) = (cells(line) for line in CARD.splitlines() if cells(line)[0] == row and len(cells(line)) == len(header))
    return float(found[header.index(column)])


def assert_as_right_as_carded(score: Score, expected: dict[str, float]) -> None:
    """At most three points below what is expected of each row, in sum; of few questions, two may be wrong by chance."""
    asked = sum(score.asked(row) for row in expected)
    right = sum(cell[0] for row in expected for cell in score.cells[row].values())
    allowed = sum(score.asked(row) * (103 - percent) / 100 for row, percent in expected.items())
    assert asked >= 20
    assert asked - right <= max(2, allowed), score.wrong


@pytest.fixture(scope="module")
def model() -> Iterator[LoadedModel]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model("embedded", device="cpu", dtype="float32")
    torch.set_num_threads(threads)


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def measured(model: LoadedModel) -> Callable[[Split], Score]:
    """A slice of the accuracy bench, on clips that it does not use."""
    return functools.cache(lambda split: lengths(model, (8, 24, 48), 4, split, nothing, SEED))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("split", COLUMNS)
def test_accuracy_is_within_three_points_of_the_card(
    measured: Callable[[Split], Score], split: Split, group: str
) -> None:
    assert_as_right_as_carded(
        measured(split), {kind: carded(row, COLUMNS[split]) for kind, row in GROUPS[group].items()}
    )


def test_choices_are_scored_as_right_as_the_card_says(model: LoadedModel) -> None:
    (percent,) = re.findall(rf"^\| {CHOICES} \(.*\) \| ([\d.]+) \|$", CARD, re.MULTILINE)
    assert_as_right_as_carded(scored_choices(model, (8, 24, 48), 3, nothing, SEED), {"ALL": float(percent)})


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
