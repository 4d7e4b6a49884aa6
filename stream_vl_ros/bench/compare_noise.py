"""Whether two sets of timings differ by more than their own noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

SEED = 20240607
RESAMPLES = 10_000
BLOCK = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a change of timings counts.

    Attributes:
        confidence: of the interval that must not contain "no change".
        least: relative change that matters, of medians of enough values.
        least_single: relative change that matters, where there are too few values for an interval.
        least_memory: relative change that matters of memory, however many values there are.
        floor_mib: MiB that memory must have changed by besides.
    """

    confidence: float = 0.99
    least: float = 0.05
    least_single: float = 0.2
    least_memory: float = 0.01
    floor_mib: float = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """How the medians of two sets of values differ.

    Attributes:
        change: relative, 0.1 for ten percent more; relative to the larger of both if a value is not above zero.
        low, high: interval of `change`; None where a side has only one value.
        beyond: whether it is more than noise, and more than the least that matters.
    """

    change: float
    low: float | None
    high: float | None
    beyond: bool


def difference(before: Sequence[float], after: Sequence[float], limits: Limits) -> Difference:
    """Compare medians by Efron's percentile bootstrap.

    B. Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7 (1979): both sides are drawn
    again from their own values, with replacement, and the interval is between quantiles of what then comes out.
    The seed is fixed, so the same values give the same interval.

    A bootstrap is too sure of itself with few values: of 3 and 3 that differ by nothing but chance, one side lies
    wholly above the other in 1 of 10 cases. Where that is more probable than the confidence allows, as it is below
    5 and 5 for 99 %, the change must exceed `least_single` as well.
    """
    a, b = np.asarray(before, np.float64), np.asarray(after, np.float64)
    change = float(_changes(np.median(a, keepdims=True), np.median(b, keepdims=True), a, b)[0])
    if min(len(a), len(b)) == 1:
        return Difference(change, None, None, abs(change) >= limits.least_single)
    rng = np.random.default_rng(SEED)
    changes = _changes(_medians(rng, a), _medians(rng, b), a, b)
    tail = (1 - limits.confidence) / 2
    low, high = (float(q) for q in np.quantile(changes, (tail, 1 - tail)))
    few = 2 / comb(len(a) + len(b), len(a)) > 1 - limits.confidence
    least = max(limits.least, limits.least_single) if few else limits.least
    return Difference(change, low, high, not low <= 0.0 <= high and abs(change) >= least)


Array = npt.NDArray[np.float64]


def _medians(rng: np.random.Generator, values: Array) -> Array:
    blocks = (rng.choice(values, (BLOCK, len(values))) for _ in range(RESAMPLES // BLOCK))
    return np.concatenate([np.median(block, axis=1) for block in blocks])


def _changes(before: Array, after: Array, a: Array, b: Array) -> Array:
    if min(a.min(), b.min()) > 0:
        return after / before - 1
    scale = max(abs(float(np.median(a))), abs(float(np.median(b))))
    return (after - before) / scale if scale else after - before
