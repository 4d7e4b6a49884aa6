"""The embedded model on both sides; and `made_up` importable by name, which importmode=importlib does not do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from stream_vl_ros.bench.native import NativeModel
from stream_vl_ros.engine import load_model
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.gauge import Gauge
from stream_vl_ros.report.material import Material
from stream_vl_ros.report.options import QUICK
from stream_vl_ros.report.sides import Sides

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def sides() -> Sides:
    loaded = load_model("embedded", device="cpu")
    native = NativeModel.of(loaded.native, loaded.processor)
    return Sides(native, loaded, Gauge(torch.device("cpu")), 24)


@pytest.fixture(scope="session")
def bench(sides) -> Bench:
    it = Bench(sides, Material(True, (112, 112), 3), QUICK, lambda text: None)
    it.warm_up()
    return it
