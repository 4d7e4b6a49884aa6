"""Small bags, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stream_vl_ros.bag.writer import ImageBagWriter, Storage

ORIGIN = 1_700_000_000_000_000_000


def numbered(i: int, *, height: int = 120, width: int = 160) -> np.ndarray:
    """A noisy picture that differs for every number."""
    return np.random.RandomState(i).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def make_bag(tmp_path: Path) -> Callable[..., Path]:
    """`make_bag("mcap", 40)` writes a bag of 40 pictures at 20 Hz and returns its folder."""

    def make(storage: Storage = "mcap", count: int = 40, *, hz: int = 20, name: str = "bag", side: int = 120) -> Path:
        path = tmp_path / f"{name}_{storage}"
        with ImageBagWriter(path, storage=storage) as writer:
            for i in range(count):
                # Recorded 7 ms after it was taken, so that mixing up the two times shows.
                stamp = ORIGIN + i * 1_000_000_000 // hz
                writer.write(numbered(i, height=side, width=side + 40), stamp, log_time=stamp + 7_000_000)
        return path

    return make
