"""What a training run does."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run does. Sizes are of one step."""

    rows: int = 24
    length: int = 4096
    pairs: int = 2560
    answers: int = 16384
    branches: int = 10
    muon: float = 0.02
    adam: float = 3e-3
    warmup: float = 0.01
    """Share of the run over which the learning rate rises."""
    hold: float = 0.35
    """Share of the run after which it falls."""
    floor: float = 0.15
    """Where it ends, as a share of its peak."""
    peak: float = 1.0
    short: float = 0.16
    """Share of the run that grows clips from short to long; 0 for none."""
    helper: float = 0.3
    """Weight of the auxiliary losses."""
    average: float = 0.998
    tap: int = 4
    seed: int = 1
    workers: int = 13


def rate(recipe: Recipe, done: float, final: bool) -> float:
    """Learning rate factor at a share of the run."""
    if done < recipe.warmup:
        return recipe.peak * (0.05 + 0.95 * done / recipe.warmup)
    if done < recipe.hold:
        return recipe.peak
    left = (1 - done) / (1 - recipe.hold)
    if final:
        return recipe.peak * max(left, 0.0)
    return recipe.peak * (recipe.floor + (1 - recipe.floor) * 0.5 * (1 - math.cos(math.pi * left)))
