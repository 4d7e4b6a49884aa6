"""The camera's picture with the last answer drawn in, for whoever looks: `~/debug_image`."""

from __future__ import annotations

import contextlib
import textwrap
import threading

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from stream_vl_ros.errors import FrameError
from stream_vl_ros.msg import Answer
from stream_vl_ros.ros.camera import ImageMessage
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.pictures import picture_of

# Of a picture's height: one line of text.
_LINE = 1 / 16
_SMALLEST, _LARGEST = 10, 32
_LINES = 4

_RclError = rclpy_implementation.RCLError


class DebugImage:
    """Draws on a thread of its own, and only while somebody subscribes; pictures that come too fast are left out."""

    def __init__(self, node: Node, topic: str, options: ImageOptions) -> None:
        """Offer the topic.

        Args:
            node: whose it is.
            topic: its name.
            options: how images are decoded.
        """
        self.options = options
        self._publisher = node.create_publisher(Image, topic, QoSProfile(depth=2))
        self._changed = threading.Condition()
        self._message: ImageMessage | None = None
        self._text = ""
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name="stream_vl_debug_image", daemon=True)
        self._thread.start()

    def answer(self, answer: Answer) -> None:
        """What is drawn from now on."""
        self._text = f"{answer.question} {answer.answer or answer.error}"

    def image(self, message: ImageMessage) -> None:
        """Draw on this one, if anybody looks. Returns at once."""
        if self._publisher.get_subscription_count() == 0:
            return
        with self._changed:
            self._message = message
            self._changed.notify()

    def close(self) -> None:
        """Stop drawing."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(1.0)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._message is not None)
                if self._closing:
                    return
                message, self._message = self._message, None
            # A picture that cannot be read is told of elsewhere; one that comes during shutdown is nobody's.
            with contextlib.suppress(FrameError, _RclError):
                self._publisher.publish(self._drawn(message))

    def _drawn(self, message: ImageMessage) -> Image:
        pixels = draw(picture_of(message, self.options), self._text)
        height, width, _ = pixels.shape
        out = Image(header=message.header, height=height, width=width, encoding="rgb8", step=width * 3)
        out.data = pixels.tobytes()
        return out


def draw(pixels: np.ndarray, text: str) -> np.ndarray:
    """A copy of a picture, uint8 (height, width, 3), with text on a dark band at its lower edge, if there is any."""
    if not text.strip():
        return pixels.copy()
    picture = Picture.fromarray(pixels).convert("RGB")
    size = int(min(max(picture.height * _LINE, _SMALLEST), _LARGEST))
    font = ImageFont.load_default(size)
    columns = max(8, int(picture.width / (0.55 * size)))
    lines = textwrap.wrap(text, columns, max_lines=_LINES, placeholder=" ...")
    band = int(1.3 * size) * len(lines) + size // 2
    top = max(0, picture.height - band)
    shade = Picture.new("RGB", (picture.width, picture.height - top))
    picture.paste(Picture.blend(picture.crop((0, top, picture.width, picture.height)), shade, 0.6), (0, top))
    ImageDraw.Draw(picture).multiline_text(
        (size // 3, top + size // 5), "\n".join(lines), font=font, fill="white", spacing=int(0.3 * size)
    )
    return np.asarray(picture)
