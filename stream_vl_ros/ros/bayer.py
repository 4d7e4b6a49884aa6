"""Bayer mosaics to RGB by bilinear interpolation.

A pattern is named by the colours of the upper left 2x2 pixels, row by row (`sensor_msgs/image_encodings.hpp`). A colour
that a pixel did not measure is the mean of the nearest pixels that did, two or four of them, rounded half up, as in
OpenCV's `cvtColor`. The picture is mirrored at its border, which keeps the pattern (OpenCV repeats the ring inside it).
"""

from __future__ import annotations

import numpy as np

from stream_vl_ros.errors import FrameError

PATTERNS = ("rggb", "bggr", "gbrg", "grbg")


def demosaic(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """The picture of a uint8 mosaic of shape (height, width): uint8 of shape (height, width, 3).

    Raises `FrameError` (``too_small``) for fewer than 2x2 pixels, of which a colour is missing.
    """
    assert pattern in PATTERNS
    height, width = mosaic.shape
    if height < 2 or width < 2:
        raise FrameError(
            "too_small",
            f"picture of {width}x{height} pixels: a Bayer mosaic needs 2x2 for every colour; check the camera driver",
        )
    padded = np.pad(mosaic, 1, mode="reflect").astype(np.uint16)
    picture = np.empty((height, width, 3), np.uint8)
    for site, colour in enumerate(pattern):
        _fill(padded, picture, site // 2, site % 2, colour, pattern[site ^ 1])
    return picture


def _fill(padded: np.ndarray, picture: np.ndarray, top: int, left: int, colour: str, beside: str) -> None:
    """Write every second pixel of every second row, from (`top`, `left`) on.

    These pixels measured `colour`, those left and right of them `beside`.
    """
    height, width = picture.shape[:2]

    def at(down: int, right: int) -> np.ndarray:
        return padded[1 + top + down : 1 + height + down : 2, 1 + left + right : 1 + width + right : 2]

    pixels = picture[top::2, left::2]
    across, along = at(0, -1) + at(0, 1), at(-1, 0) + at(1, 0)
    if colour == "g":
        pixels[..., "rgb".index(beside)] = (across + 1) >> 1
        pixels[..., 1] = at(0, 0)
        pixels[..., "bgr".index(beside)] = (along + 1) >> 1
    else:
        pixels[..., "rgb".index(colour)] = at(0, 0)
        pixels[..., 1] = (across + along + 2) >> 2
        pixels[..., "bgr".index(colour)] = (at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1) + 2) >> 2
