"""Image messages to RGB."""

from __future__ import annotations

import array
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros.images import to_rgb

# Where red, green and blue lie in a pixel of so many bytes.
LAYOUTS = {
    "rgb8": (3, "012"),
    "bgr8": (3, "210"),
    "rgba8": (4, "012"),
    "bgra8": (4, "210"),
    "mono8": (1, "000"),
    "8UC1": (1, "000"),
    "8UC3": (3, "210"),
    "8UC4": (4, "210"),
}
KINDS = {
    "array": lambda b: array.array("B", b),
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "numpy": lambda b: np.frombuffer(b, np.uint8),
}


@dataclass
class Message:
    """The fields of sensor_msgs/Image that matter."""

    height: int
    width: int
    encoding: str
    step: int
    data: object
    is_bigendian: int = 0


def message(encoding: str, height: int = 3, width: int = 5, padding: int = 0, kind: str = "array", extra: int = 0):
    """A message of distinct bytes, and the picture that it holds, made pixel by pixel."""
    size, order = LAYOUTS[encoding]
    step = width * size + padding
    data = bytes(np.random.default_rng(4).integers(0, 256, height * step + extra, dtype=np.uint8))
    picture = [
        [[data[y * step + x * size + int(c)] for c in order] for x in range(width)] for y in range(height)
    ]  # fmt: skip
    return Message(height, width, encoding, step, KINDS[kind](data)), np.array(picture, np.uint8)


def refused(message: Message, reason: str) -> str:
    with pytest.raises(FrameError) as raised:
        to_rgb(message)
    assert raised.value.reason == reason
    return str(raised.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [0, 1, 64])
@pytest.mark.parametrize("encoding", LAYOUTS)
def test_layouts(encoding, padding, kind):
    image, picture = message(encoding, padding=padding, kind=kind)
    rgb = to_rgb(image)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (3, 5, 3))
    assert rgb.flags.c_contiguous
    assert np.array_equal(rgb, picture)


@given(
    encoding=st.sampled_from(sorted(LAYOUTS)),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    padding=st.integers(0, 9),
    extra=st.integers(0, 30),
)
def test_sizes(encoding, height, width, padding, extra):
    image, picture = message(encoding, height, width, padding, extra=extra)
    assert np.array_equal(to_rgb(image), picture)


@pytest.mark.parametrize("encoding", LAYOUTS)
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("kept", [0, 1, 0.5, -1])
def test_data_that_is_too_short(encoding, padding, kept):
    image, _ = message(encoding, padding=padding)
    full = len(image.data)
    image.data = image.data[: int(full * kept) if 0 < kept < 1 else kept]
    text = refused(image, "short_data")
    assert f"{len(image.data)} bytes" in text
    assert f"= {full}" in text
    assert "driver" in text


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_a_step_that_is_too_small(encoding):
    image, _ = message(encoding)
    image.step -= 1
    text = refused(image, "bad_step")
    assert f"step {image.step}" in text
    assert repr(encoding) in text
    assert "driver" in text
    image.step = 0
    refused(image, "bad_step")


@pytest.mark.parametrize(("height", "width"), [(0, 5), (3, 0), (0, 0)])
def test_no_pixels(height, width):
    text = refused(Message(height, width, "rgb8", width * 3, array.array("B")), "zero_size")
    assert f"{width}x{height}" in text


@pytest.mark.parametrize("encoding", ["", "RGB8", "yuv422", "mono16", "32FC1", "bayer_rggb8", "rgb8; compressed"])
def test_an_unknown_encoding(encoding):
    text = refused(Message(3, 5, encoding, 15, array.array("B", bytes(45))), "unknown_encoding")
    assert repr(encoding) in text
    assert all(known in text for known in LAYOUTS)


def test_too_narrow_a_picture():
    refused(Message(1, 201, "rgb8", 603, array.array("B", bytes(603))), "aspect_ratio")


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_the_message_is_not_changed(encoding):
    image, _ = message(encoding)
    before = bytes(image.data)
    to_rgb(image)
    assert bytes(image.data) == before
