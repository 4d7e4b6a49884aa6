"""Memories that go from one device to another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from stream_vl_ros.engine import (
    EngineRunner,
    Question,
    RunnerConfig,
    StreamConfig,
    VideoStream,
    load_memory,
    load_model,
)
from stream_vl_ros.engine import save_memory as save
from stream_vl_ros.engine.random_checkpoint import random_checkpoint

sys.path.append(str(Path(__file__).parent))
from resumed import goes_on, pictures, resumed, watch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = str(random_checkpoint(folder=tmp_path_factory.mktemp("checkpoint")))
    return {device: load_model(folder, device=device, dtype="bfloat16") for device in ("cpu", "cuda")}


@pytest.mark.parametrize("settings", [{}, {"eviction": "importance", "budget_tokens": 120}], ids=["all", "importance"])
def test_a_stream_on_the_device_goes_on(models, tmp_path, settings):
    stream = VideoStream(models["cuda"], StreamConfig(**settings))
    watch(stream, 0, 63)
    save(stream, tmp_path / "kitchen")
    other = resumed(models["cuda"], str(tmp_path / "kitchen"), stream.config)
    assert goes_on(other) == goes_on(stream)


@pytest.mark.parametrize("route", [("cuda", "cpu"), ("cpu", "cuda")], ids="-to-".join)
def test_from_device_to_device(models, tmp_path, route):
    stream = VideoStream(models[route[0]], StreamConfig(still_threshold=85.3))
    watch(stream, 0, 63)
    save(stream, tmp_path / "kitchen")
    other = resumed(models[route[1]], str(tmp_path / "kitchen"), stream.config)
    assert other.signature() == stream.signature()
    assert other.cache.shape.device.type == route[1]
    watch(other, 63, 80)
    assert other.ask("What is it?", max_new_tokens=4).token_ids


def test_saved_and_loaded_while_it_answers(models, tmp_path):
    """Copies to and from the device are made between chunks and answers."""
    stream = VideoStream(models["cuda"], StreamConfig(target_fps=0))
    with EngineRunner(stream, RunnerConfig(flush_after=60.0, queue_policy="block")) as runner:
        for i in range(400):
            runner.push(pictures()[i % 80], i * 500_000_000)
            if i % 50 == 49:
                runner.ask(Question("What is it?", max_new_tokens=40))
                saving = runner.save(tmp_path / "kitchen")
        before = runner.call(lambda s: s.signature()).result(60)
        saving.result(60)
        runner.load(tmp_path / "kitchen").result(60)
        assert runner.call(lambda s: s.signature()).result(60) == before
    assert load_memory(models["cpu"], tmp_path / "kitchen").cache.length > 1000
