"""The encodings of `sensor_msgs/Image` that are decoded here: how each lies in memory, and what makes RGB of it.

Names and layouts are those of `sensor_msgs/image_encodings.hpp` of ROS 2 Jazzy. `nv12` came later (pull requests 253
and 264 of ros2/common_interfaces) and is V4L2's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream_vl_ros.ros import bayer, depth, yuv
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.pixels import gray_to_rgb, high_bytes, pick_channels


@dataclass(frozen=True, slots=True)
class Rows:
    """The data of a message, checked.

    Attributes:
        data: uint8 of shape (rows of all planes, step).
    """

    data: np.ndarray
    height: int
    width: int
    bigendian: bool
    options: ImageOptions

    def values(self, dtype: str) -> np.ndarray:
        """The numbers of a single channel, in the machine's byte order: shape (height, width)."""
        kind = np.dtype(dtype).newbyteorder(">" if self.bigendian else "<")
        numbers = np.ascontiguousarray(self.data[:, : self.width * kind.itemsize]).view(kind)
        return numbers.astype(kind.newbyteorder("="), copy=False)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one encoding lies in memory and becomes RGB.

    Attributes:
        row_bytes: bytes of a row without padding, of the width.
        rows: rows of `step` bytes, of the height.
        planar: there are several planes.
    """

    decode: Callable[[Rows], np.ndarray]
    row_bytes: Callable[[int], int]
    rows: Callable[[int], int] = int
    planar: bool = False


def _channels(order: tuple[int, int, int], size: int) -> Encoding:
    """`size` bytes for a pixel, of which `order` are red, green and blue."""

    def decode(rows: Rows) -> np.ndarray:
        pixels = rows.data[:, : rows.width * size].reshape(rows.height, rows.width, size)
        return pick_channels(pixels, order)

    return Encoding(decode, lambda width: width * size)


def _channels_16(order: tuple[int, int, int], size: int) -> Encoding:
    """The same with 16 bits for a channel."""

    def decode(rows: Rows) -> np.ndarray:
        upper = high_bytes(rows.data, rows.width * size, rows.bigendian)
        return pick_channels(upper.reshape(rows.height, rows.width, size), order)

    return Encoding(decode, lambda width: width * size * 2)


def _bayer(pattern: str) -> Encoding:
    return Encoding(lambda rows: bayer.demosaic(rows.data[:, : rows.width], pattern), lambda width: width)


def _bayer_16(pattern: str) -> Encoding:
    def decode(rows: Rows) -> np.ndarray:
        return bayer.demosaic(high_bytes(rows.data, rows.width, rows.bigendian), pattern)

    return Encoding(decode, lambda width: width * 2)


def _packed_yuv(luma_first: bool) -> Encoding:
    return Encoding(lambda rows: yuv.packed_422(rows.data, rows.width, luma_first), lambda width: 2 * yuv.even(width))


def _semi_planar_420(v_first: bool) -> Encoding:
    return Encoding(
        lambda rows: yuv.semi_planar_420(rows.data, rows.height, rows.width, v_first),
        yuv.even,
        lambda height: height + yuv.even(height) // 2,
        planar=True,
    )


def _depth_16(rows: Rows) -> np.ndarray:
    return gray_to_rgb(depth.gray_of_millimetres(rows.values("u2"), rows.options.depth_max_m))


def _depth_32(rows: Rows) -> np.ndarray:
    return gray_to_rgb(depth.gray_of_metres(rows.values("f4"), rows.options.depth_max_m))


_RGB, _BGR, _GRAY = (0, 1, 2), (2, 1, 0), (0, 0, 0)

ENCODINGS: dict[str, Encoding] = {
    "rgb8": _channels(_RGB, 3),
    "bgr8": _channels(_BGR, 3),
    "rgba8": _channels(_RGB, 4),
    "bgra8": _channels(_BGR, 4),
    "mono8": _channels(_GRAY, 1),
    "8UC1": _channels(_GRAY, 1),
    "8UC3": _channels(_BGR, 3),
    "8UC4": _channels(_BGR, 4),
    "rgb16": _channels_16(_RGB, 3),
    "bgr16": _channels_16(_BGR, 3),
    "rgba16": _channels_16(_RGB, 4),
    "bgra16": _channels_16(_BGR, 4),
    "mono16": _channels_16(_GRAY, 1),
    "16UC1": Encoding(_depth_16, lambda width: width * 2),
    "32FC1": Encoding(_depth_32, lambda width: width * 4),
    "uyvy": _packed_yuv(luma_first=False),
    "yuv422": _packed_yuv(luma_first=False),
    "yuyv": _packed_yuv(luma_first=True),
    "yuv422_yuy2": _packed_yuv(luma_first=True),
    "nv12": _semi_planar_420(v_first=False),
    "nv21": _semi_planar_420(v_first=True),
    "nv24": Encoding(
        lambda rows: yuv.semi_planar_444(rows.data, rows.height, rows.width),
        lambda width: width,
        lambda height: 3 * height,
        planar=True,
    ),
    **{f"bayer_{pattern}8": _bayer(pattern) for pattern in bayer.PATTERNS},
    **{f"bayer_{pattern}16": _bayer_16(pattern) for pattern in bayer.PATTERNS},
}
