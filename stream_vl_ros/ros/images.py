"""`sensor_msgs/Image` to RGB, without cv_bridge (which does not import with NumPy 2 everywhere)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from stream_vl_ros.engine.pictures import check_size
from stream_vl_ros.errors import FrameError

# Bytes per pixel and, of those, which make red, green and blue.
_LAYOUTS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC1": (1, (0, 0, 0)),
    "8UC3": (3, (2, 1, 0)),
    "8UC4": (4, (2, 1, 0)),
}


class ImageMessage(Protocol):
    """The fields of `sensor_msgs/msg/Image` that are read."""

    height: int
    width: int
    encoding: str
    step: int
    data: Any  # bytes, or an array of them


def to_rgb(message: ImageMessage) -> np.ndarray:
    """The picture of a message: uint8 of shape (height, width, 3) in RGB order, row padding removed.

    Raises `FrameError` with reason ``zero_size``, ``aspect_ratio``, ``unknown_encoding``, ``bad_step``, ``short_data``.
    """
    height, width, step = message.height, message.width, message.step
    check_size(height, width)
    if message.encoding not in _LAYOUTS:
        raise FrameError(
            "unknown_encoding",
            f"image encoding {message.encoding!r} is not supported; supported are {', '.join(_LAYOUTS)}: set the "
            "camera driver to one of them, or put image_proc in between",
        )
    size, order = _LAYOUTS[message.encoding]
    if step < width * size:
        raise FrameError(
            "bad_step",
            f"image step {step} is less than width x bytes per pixel = {width} x {size} = {width * size} for encoding "
            f"{message.encoding!r}: the message contradicts itself; check the camera driver",
        )
    data = np.frombuffer(message.data, dtype=np.uint8)
    if data.size < step * height:
        raise FrameError(
            "short_data",
            f"image data holds {data.size} bytes but step x height = {step} x {height} = {step * height}: the message "
            "was cut off or its size is wrong; check the camera driver",
        )
    rows = data[: step * height].reshape(height, step)[:, : width * size].reshape(height, width, size)
    return np.ascontiguousarray(rows if order == (0, 1, 2) and size == 3 else rows[:, :, list(order)])
