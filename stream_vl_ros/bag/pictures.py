"""Recorded messages as pictures. Needs no ROS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stream_vl_ros.bag.reader import BagReader, Message, Topic
from stream_vl_ros.errors import BagError
from stream_vl_ros.ros.compressed import compressed_to_rgb
from stream_vl_ros.ros.images import to_rgb

# Message type -> what makes a picture of a message, raising `FrameError` for one that cannot be used.
DECODERS: dict[str, Callable[[Any], np.ndarray]] = {
    "sensor_msgs/msg/Image": to_rgb,
    "sensor_msgs/msg/CompressedImage": compressed_to_rgb,
}


def picture_maker(bag: BagReader, topic: Topic) -> Callable[[Message], np.ndarray]:
    """A function that makes a picture, uint8 (height, width, 3) in RGB, of a message of this topic.

    Raises:
        BagError: messages of this type cannot be decoded.
    """
    decoder = DECODERS.get(topic.msgtype)
    if decoder is None:
        raise BagError(
            f"Topic {topic.name} of bag {str(bag.path)!r} holds {topic.msgtype}, which cannot be decoded; supported: "
            f"{', '.join(DECODERS)}. `ros2 run image_transport republish` turns one into the other; record it again."
        )
    return lambda message: decoder(bag.decode(topic, message))
