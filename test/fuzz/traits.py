"""What is wrong with a message, as it can be seen in the message itself."""

from __future__ import annotations

import struct

import numpy as np
from mutated_images import SECOND, START, files
from sensor_msgs.msg import CompressedImage, Image

GIGABYTES = 2 * 10**9
EXPECTED = frozenset(
    (
        *(("Image", trait) for trait in ("NaN", "giant", "stamp 0", "negative stamp", "far future")),
        *(("CompressedImage", trait) for trait in ("cut jpeg", "giant", "stamp 0", "negative stamp", "far future")),
    )
)
"""What a fuzz of images has to have tried."""


def traits(message: Image | CompressedImage) -> set[tuple[str, str]]:
    """Which of `EXPECTED` a message shows."""
    seen = set()
    stamp = message.header.stamp
    if (stamp.sec, stamp.nanosec) == (0, 0):
        seen.add("stamp 0")
    if stamp.sec < 0:
        seen.add("negative stamp")
    if stamp.sec > START // SECOND + 10 * 365 * 86_400:
        seen.add("far future")
    data = bytes(message.data)
    if isinstance(message, Image):
        if message.encoding == "32FC1" and np.isnan(np.frombuffer(data[: len(data) // 4 * 4], np.float32)).any():
            seen.add("NaN")
        pixels = message.height * message.width
    else:
        if any(jpeg.startswith(data) and 2 < len(data) < len(jpeg) for jpeg in _jpegs()):
            seen.add("cut jpeg")
        height, width = struct.unpack(">II", data[16:24]) if _is_png(data) else (0, 0)
        pixels = height * width
    if 3 * pixels > GIGABYTES:
        seen.add("giant")
    return {(type(message).__name__, trait) for trait in seen}


def _jpegs() -> list[bytes]:
    return [file for name, file in files().items() if name.endswith("jpeg")]


def _is_png(data: bytes) -> bool:
    return data.startswith(b"\x89PNG") and len(data) >= 24
