"""Fixtures shared by the engine's tests."""

from __future__ import annotations

import pytest

from stream_vl_ros.engine import LoadedModel, load_model
from stream_vl_ros.engine.random_checkpoint import random_checkpoint


@pytest.fixture(scope="session")
def loaded(tmp_path_factory) -> LoadedModel:
    """A seeded random Qwen2.5-VL checkpoint, loaded from its folder."""
    return load_model(
        str(random_checkpoint(folder=tmp_path_factory.mktemp("checkpoint"))), device="cpu", dtype="float32"
    )
