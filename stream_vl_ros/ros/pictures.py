"""Messages of either kind to RGB, those of rclpy and those that rosbags reads from a recording."""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_vl_ros.ros.compressed import compressed_to_rgb
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.images import to_rgb


def picture_of(message: Any, options: ImageOptions) -> np.ndarray:
    """The picture of an Image or a CompressedImage, C-contiguous uint8 of shape (height, width, 3) in RGB order.

    Raises `FrameError`, see `to_rgb` and `compressed_to_rgb`.
    """
    # Their classes differ from one library to the next, their fields do not.
    decode = compressed_to_rgb if hasattr(message, "format") else to_rgb
    return decode(message, options)
