"""How much is tried: FUZZ_MESSAGES and FUZZ_SEED, see docs/security.md."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stream_vl_ros.engine import LoadedModel, load_model

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session")
def fuzz_messages() -> int:
    """Image messages that are sent in one process."""
    return int(os.environ.get("FUZZ_MESSAGES", "10000"))


@pytest.fixture(scope="session")
def fuzz_seed() -> int:
    """Another one makes other messages."""
    return int(os.environ.get("FUZZ_SEED", "1"))


@pytest.fixture(scope="session")
def embedded() -> LoadedModel:
    """The model that comes with the package."""
    return load_model("embedded", device="cpu")
