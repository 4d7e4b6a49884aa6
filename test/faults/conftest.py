"""A real engine on the embedded model."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream_vl_ros.demo.scene import FPS, demo_clip
from stream_vl_ros.engine import EngineRunner, LoadedModel, RunnerConfig, StreamConfig, VideoStream, load_model

sys.path.append(str(Path(__file__).parent))
from faulty import CHUNK, RIGHT, Engine


@pytest.fixture(scope="session")
def embedded() -> LoadedModel:
    return load_model("embedded", device="cpu", dtype="float32")


@pytest.fixture(scope="module", autouse=True)
def what_was_there_before(embedded) -> Iterator[None]:
    """Libraries and model are left out when objects are looked through: that takes most of a test otherwise."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """Pictures of the demo's first seconds, 2 in each."""
    return demo_clip(end=8.0)[0][:: FPS // 2]


@pytest.fixture
def engine(embedded, scene) -> Iterator[Engine]:
    """One that has seen two chunks and answered."""
    stream = VideoStream(embedded, StreamConfig(target_fps=0, chunk_frames=CHUNK))
    with EngineRunner(stream, RunnerConfig(flush_after=60.0, queue_policy="block")) as runner:
        it = Engine(runner, scene)
        it.show(2 * CHUNK)
        assert it.ask() == RIGHT
        yield it
