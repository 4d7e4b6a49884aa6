"""YUV to RGB, bit for bit as OpenCV's `cvtColor` does it, and so cv_bridge.

That is ITU-R BT.601 with limited range (Y from 16 to 235, U and V from 16 to 240), in 20-bit fixed point, luma below 16
counted as 16; and every pixel takes the U and V of its group as they are, without interpolation. The messages do not
say which matrix and range a camera uses; BT.601 limited is what UVC cameras send unless they say otherwise.

Memory layouts: "Packed YUV formats" and "Planar YUV formats" of the Linux kernel's V4L2 documentation, to which
`sensor_msgs/image_encodings.hpp` refers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SHIFT = 20
_Y, _V_RED, _U_GREEN, _V_GREEN, _U_BLUE = (
    round(factor * (1 << _SHIFT)) for factor in (1.164, 1.596, -0.391, -0.813, 2.018)
)
# As many groups of pixels at a time as keep the temporary arrays in the processor's cache.
_BAND = 32768


def even(size: int) -> int:
    """The next even number: chroma is shared by pairs, and a last odd pixel has one of its own."""
    return size + size % 2


def packed_422(rows: np.ndarray, width: int, luma_first: bool) -> np.ndarray:
    """YUYV (`luma_first`) or UYVY, a U and a V for two pixels: uint8 of shape (height, width, 3).

    `rows` is uint8 of shape (height, at least 2 * even(width)).
    """
    height = len(rows)
    pairs = rows[:, : 2 * even(width)].reshape(height, -1, 4)
    luma, chroma = (0, 1) if luma_first else (1, 0)
    picture = np.empty((height, width, 3), np.uint8)
    places = [(pairs[:, :, luma + 2 * right], picture[:, right::2]) for right in (0, 1)]
    _convert(pairs[:, :, chroma], pairs[:, :, chroma + 2], places)
    return picture


def semi_planar_420(rows: np.ndarray, height: int, width: int, v_first: bool) -> np.ndarray:
    """NV12, or NV21 (`v_first`): Y, then pairs of U and V for 2x2 pixels each: uint8 of shape (height, width, 3).

    `rows` is uint8 of shape (height + even(height) // 2, at least even(width)).
    """
    luma, chroma = rows[:height, :width], rows[height:, : even(width)]
    picture = np.empty((height, width, 3), np.uint8)
    places = [(luma[down::2, right::2], picture[down::2, right::2]) for down in (0, 1) for right in (0, 1)]
    _convert(chroma[:, int(v_first) :: 2], chroma[:, int(not v_first) :: 2], places)
    return picture


def semi_planar_444(rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """NV24: Y, then a pair of U and V for each pixel, its rows twice as long: uint8 of shape (height, width, 3).

    `rows` is uint8 of shape (3 * height, at least width), two of the last ones for each row of chroma.
    """
    chroma = rows[height:].reshape(height, -1)[:, : 2 * width]
    picture = np.empty((height, width, 3), np.uint8)
    _convert(chroma[:, 0::2], chroma[:, 1::2], [(rows[:height, :width], picture)])
    return picture


def _convert(u: np.ndarray, v: np.ndarray, places: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write RGB for every pixel of each group that shares a U and a V.

    `u` and `v` are uint8 of shape (rows, columns). `places` are the Y, uint8 of shape (rows, columns), and the pixels
    to write, (rows, columns, 3), of the upper left pixel of each group, of the next one, and so on. They may be a row
    or a column short where the last groups are not whole.
    """
    band = max(1, _BAND // u.shape[1])
    for start in range(0, len(u), band):
        part = slice(start, start + band)
        blue, red = u[part].astype(np.int32) - 128, v[part].astype(np.int32) - 128
        chroma = _V_RED * red, _V_GREEN * red + _U_GREEN * blue, _U_BLUE * blue
        for y, pixels in places:
            picture = pixels[part]
            height, width = picture.shape[:2]
            luma = np.maximum(y[part, :width].astype(np.int32), 16)
            luma -= 16
            luma *= _Y
            luma += 1 << (_SHIFT - 1)
            for channel in range(3):
                value = luma + chroma[channel][:height, :width]
                value >>= _SHIFT
                np.clip(value, 0, 255, out=picture[:, :, channel], casting="unsafe")
