"""Frame sizes, and what the vision tower needs to know of each.

All sizes share tensors of ``SLOTS`` patches and ``CELLS`` merged tokens per frame pair, the unused
ones masked, so that a batch mixes aspect ratios at fixed tensor sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.shape import MERGE, PATCH, VISION_HEADS, VISION_HIDDEN, WINDOW

SIZES: tuple[tuple[int, int], ...] = ((112, 112), (84, 112), (84, 140), (112, 84))
"""Height and width in pixels: square, 4:3, 16:9 and 3:4 cameras at the checkpoint's pixel budget."""

CANVAS = (112, 140)
"""Holds every size."""

SLOTS = 64
CELLS = SLOTS // MERGE**2


@dataclass(frozen=True, slots=True)
class Grids:
    """Tables by size index."""

    take: Tensor  # int64 [sizes, SLOTS] patch of the canvas in each slot
    cos: Tensor  # float32 [sizes, SLOTS, head_dim]
    sin: Tensor
    windowed: Tensor  # bool [sizes, SLOTS, SLOTS] may attend within the window
    full: Tensor  # bool, anywhere in the frame pair


def cells(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of merged tokens."""
    unit = PATCH * MERGE
    return size[0] // unit, size[1] // unit


def grids(device: torch.device, theta: float = 10000.0) -> Grids:
    """Build the tables; slots are in the processor's order, four patches of a cell in a row."""
    quarter = VISION_HIDDEN // VISION_HEADS // 4
    inverse = theta ** -(torch.arange(quarter, dtype=torch.float32) / quarter)
    span = WINDOW // PATCH // MERGE
    columns = CANVAS[1] // PATCH
    take = torch.zeros(len(SIZES), SLOTS, dtype=torch.int64)
    angles = torch.zeros(len(SIZES), SLOTS, 4 * quarter)
    windowed = torch.zeros(len(SIZES), SLOTS, SLOTS, dtype=torch.bool)
    full = torch.zeros_like(windowed)
    for i, size in enumerate(SIZES):
        rows, cols = cells(size)
        places = [
            (cy * MERGE + y, cx * MERGE + x)
            for cy in range(rows)
            for cx in range(cols)
            for y in range(MERGE)
            for x in range(MERGE)
        ]
        n = len(places)
        yx = torch.tensor(places)
        take[i, :n] = yx[:, 0] * columns + yx[:, 1]
        spatial = torch.cat((yx[:, :1] * inverse, yx[:, 1:] * inverse), 1)
        angles[i, :n] = torch.cat((spatial, spatial), 1)
        home = (yx[:, 0] // (MERGE * span)) * 64 + yx[:, 1] // (MERGE * span)
        windowed[i, :n, :n] = home[:, None] == home[None, :]
        full[i, :n, :n] = True
        # A masked row must attend somewhere or its softmax is undefined.
        unused = torch.arange(n, SLOTS)
        windowed[i, unused, unused] = True
        full[i, unused, unused] = True
    return Grids(*(t.to(device) for t in (take, angles.cos(), angles.sin(), windowed, full)))


def patchify(plane: Tensor) -> Tensor:
    """One colour plane [2P, H, W] to canvas patches [P, patches, 2*14*14]."""
    count, height, width = plane.shape
    x = plane.view(count // 2, 2, height // PATCH, PATCH, width // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(count // 2, (height // PATCH) * (width // PATCH), 2 * PATCH * PATCH)
