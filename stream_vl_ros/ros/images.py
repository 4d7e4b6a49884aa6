"""`sensor_msgs/Image` to RGB, without cv_bridge (which does not import with NumPy 2 everywhere)."""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

from stream_vl_ros.brief import brief, shown
from stream_vl_ros.engine.pictures import check_pixels
from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros import bridge
from stream_vl_ros.ros.encodings import ENCODINGS, Rows
from stream_vl_ros.ros.image_options import DEFAULTS, ImageOptions, check_dimensions


class ImageMessage(Protocol):
    """The fields of `sensor_msgs/msg/Image` that are read."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any  # bytes, or an array of them


def to_rgb(message: ImageMessage, options: ImageOptions = DEFAULTS) -> np.ndarray:
    """The picture of a message: C-contiguous uint8 of shape (height, width, 3) in RGB order, row padding removed.

    A view of the message's data if that is rgb8 without padding. Values of 16 bits lose the lower eight; depth becomes
    gray as `depth` says. An encoding that is not known here is left to cv_bridge where it can be imported.

    Raises `FrameError` with reason ``zero_size``, ``aspect_ratio``, ``too_large``, ``unknown_encoding``, ``bad_step``,
    ``short_data``, ``too_small``.
    """
    height, width = message.height, message.width
    check_dimensions(height, width, options)
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        return _by_cv_bridge(message)
    row, count = encoding.row_bytes(width), encoding.rows(height)
    data = np.frombuffer(message.data, dtype=np.uint8)
    step = message.step
    if step < row:
        raise FrameError(
            "bad_step",
            f"image step {step} is less than the {row} bytes of a row of {width} pixels in encoding "
            f"{message.encoding!r}: the message contradicts itself; check the camera driver",
        )
    if encoding.planar and data.size == row * count < step * count:
        # The planes share one step, of which drivers make the bytes of all planes over the height (depthai-ros), or
        # the width by the channels. The size tells that no row is padded.
        step = row
    if data.size < step * count:
        raise FrameError(
            "short_data",
            f"image data holds {data.size} bytes but step x rows = {step} x {count} = {step * count} for {height} rows "
            f"of encoding {message.encoding!r}: the message was cut off or its size is wrong; check the camera driver",
        )
    rows = data[: step * count].reshape(count, step)
    return encoding.decode(Rows(rows, height, width, bool(message.is_bigendian), options))


def _by_cv_bridge(message: ImageMessage) -> np.ndarray:
    found = bridge.find_bridge()
    if found.convert is None:
        package = f"ros-{os.environ.get('ROS_DISTRO', '<distro>')}-cv-bridge"
        more = f"{package} is installed but does not work ({found.problem})" if found.problem else f"install {package}"
        raise FrameError(
            "unknown_encoding",
            f"image encoding {shown(message.encoding)} is not supported; supported are {', '.join(ENCODINGS)}: set the "
            f"camera driver to one of them, or put image_proc in between; cv_bridge would read more of them: {more}",
        )
    try:
        picture = np.array(found.convert(message, "rgb8"), order="C")
    except Exception as error:
        # Third-party code on data from outside: whatever it raises is about this message.
        raise FrameError(
            "unknown_encoding",
            f"image encoding {shown(message.encoding)} is not supported, and cv_bridge does not read it either "
            f"({type(error).__name__}: {brief(str(error), 300)}); supported are "
            f"{', '.join(ENCODINGS)}: set the camera driver to one",
        ) from error
    check_pixels(picture)
    return picture
