"""Depth to gray by a fixed rule: 255 at the camera, falling in a line to 1 at the end of the range and beyond.

Black, 0, is a pixel without a measurement: NaN, an infinity, zero or less. So the nearest things are the brightest, and
what was not seen differs from what is far. The range is a setting and never taken from the picture: with a range of its
own, each frame of a scene at rest would look different, and nothing would count as unchanged.

Units are those of REP 118: a float is in metres with NaN for an invalid one, a 16-bit integer in millimetres with 0.
"""

from __future__ import annotations

import functools

import numpy as np


def gray_of_metres(depth: np.ndarray, max_m: float) -> np.ndarray:
    """Floating point metres of any shape: uint8 of that shape."""
    measured = np.isfinite(depth) & (depth > 0)
    near: np.ndarray = np.minimum(depth, max_m, out=np.zeros_like(depth), where=measured)
    near *= -254.0 / max_m
    near += 255.5
    near *= measured
    return near.astype(np.uint8)


def gray_of_millimetres(depth: np.ndarray, max_m: float) -> np.ndarray:
    """uint16 millimetres of any shape: uint8 of that shape, equal to that of the same depth in metres."""
    return _gray_of_each_millimetre(max_m).take(depth)


def gray_of_inverse(code: np.ndarray, a: float, b: float, max_m: float) -> np.ndarray:
    """uint16 codes of inverse depth, metres = `a` / (code - `b`) and 0 for no measurement: uint8 of the same shape."""
    with np.errstate(all="ignore"):
        metres = np.float32(a) / (np.arange(1 << 16, dtype=np.float32) - np.float32(b))
    metres[0] = 0
    return gray_of_metres(metres, max_m).take(code)


@functools.lru_cache(maxsize=8)
def _gray_of_each_millimetre(max_m: float) -> np.ndarray:
    # uint8 of shape (65536,), kept as long as the process: as many as there are settings.
    return gray_of_metres(np.arange(1 << 16, dtype=np.float32) / np.float32(1000), max_m)
