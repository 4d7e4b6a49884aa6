"""The recording that comes with the package."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest

from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.demo.questions import DEMO_BAG, Question
from stream_vl_ros.demo.scene import FPS, SECONDS, SIDE, demo_scene
from stream_vl_ros.engine import StreamConfig, VideoStream, load_model
from stream_vl_ros.ros.images import to_rgb
from stream_vl_ros.world import questions

ROOT = Path(__file__).resolve().parents[2]
BAG = ROOT / "stream_vl_ros" / "data" / "demo_bag"


def test_the_script_draws_it_again() -> None:
    spec = importlib.util.spec_from_file_location("make_demo_bag", ROOT / "scripts" / "make_demo_bag.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with BagReader(BAG) as bag:
        topic = bag.image_topic()
        messages = list(bag.messages(topic))
        images = [bag.decode(topic, m) for m in messages]
    drawn = list(script.frames())
    assert [m.stamp for m in messages] == [stamp for stamp, _ in drawn]
    shipped = np.stack([i.data.reshape(i.height, i.width, 3) for i in images])  # type: ignore[attr-defined]
    fresh = np.stack([pixels for _, pixels in drawn])
    # Another processor may round a value the other way; a changed scene or look changes far more than this.
    differing = (shipped != fresh).mean()
    assert differing < 0.001, f"{differing:.2%} of the values differ: run scripts/make_demo_bag.py again"


def test_size_and_shape() -> None:
    with BagReader(BAG) as bag:
        topic = bag.image_topic()
        assert (topic.count, topic.rate) == (FPS * SECONDS, pytest.approx(FPS))
        first = bag.decode(topic, next(bag.messages(topic)))
    assert (first.height, first.width, first.encoding) == (SIDE, SIDE, "rgb8")  # type: ignore[attr-defined]
    assert first.header.stamp.sec == 1_700_000_000  # type: ignore[attr-defined]
    assert sum(f.stat().st_size for f in BAG.iterdir()) < 4 * 2**20


KINDS = {
    "What is visible now?": "visible",
    "Which way does the red circle move?": "direction",
    "How many objects are there?": "count",
    "What disappeared last?": "gone",
    "What appeared before the green triangle?": "before",
    "Where is the green triangle?": "where",
    "Did the square change its colour?": "color_change",
    "What appeared first?": "first",
}


@pytest.mark.parametrize("question", DEMO_BAG, ids=lambda q: q.text)
def test_expected_answers_are_true_of_the_scene(question: object) -> None:
    """The world's own truth must agree, some frames around the moment of asking, as frames are sampled and late."""
    scene = demo_scene()
    kind = KINDS[question.text]  # type: ignore[attr-defined]
    for slack in (-2, 0, 2):
        now = round(question.at * FPS) + slack  # type: ignore[attr-defined]
        found = {
            drawn.text: drawn.answer
            for seed in range(600)
            if (drawn := questions.ask(random.Random(seed), scene, now, kind)) is not None
        }
        assert found.get(question.text) == question.expected  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def answers() -> dict[Question, str]:
    """What the embedded model says to every question, asked at its moment while the recording is streamed."""
    stream = VideoStream(load_model("embedded", device="cpu", dtype="float32"), StreamConfig(target_fps=2))
    waiting = sorted(DEMO_BAG, key=lambda q: q.at)
    said = {}

    def ask_until(second: float) -> None:
        while waiting and waiting[0].at < second:
            question = waiting.pop(0)
            said[question] = stream.ask(question.text, question.choices).text

    with BagReader(BAG) as bag:
        topic = bag.image_topic()
        first = None
        for message in bag.messages(topic):
            first = message.stamp if first is None else first
            ask_until((message.stamp - first) / 1e9)
            stream.offer(to_rgb(bag.decode(topic, message)), message.stamp)  # type: ignore[arg-type]
            stream.encode_chunk()
    ask_until(float("inf"))
    assert stream.frames + len(stream.pending) == 2 * SECONDS
    return said


@pytest.mark.parametrize("question", DEMO_BAG, ids=lambda q: q.text)
def test_the_embedded_model_answers_as_expected(question: Question, answers: dict[Question, str]) -> None:
    assert question.expected is not None and answers[question] == question.expected
