"""Pictures as serialized `sensor_msgs/msg/Image`, without ROS."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from stream_vl_ros.bag.cdr import NANOSECONDS

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"


@cache
def typestore() -> Typestore:
    """The types of ROS 2. It writes the code for a type when it meets it first."""
    return get_typestore(Stores.ROS2_JAZZY)


def serialized_image(pixels: NDArray[np.uint8], stamp: int, frame_id: str, encoding: str = "rgb8") -> bytes:
    """A message in CDR.

    Args:
        pixels: (height, width, 3), in the channel order of `encoding`.
        stamp: header stamp, nanoseconds.
        frame_id: of the header.
        encoding: "rgb8" or "bgr8".
    """
    types = typestore().types
    height, width, _ = pixels.shape
    seconds, nanoseconds = divmod(stamp, NANOSECONDS)
    message = types[IMAGE](
        header=types["std_msgs/msg/Header"](
            stamp=types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds), frame_id=frame_id
        ),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(pixels).reshape(-1),
    )
    return bytes(typestore().serialize_cdr(message, IMAGE))
