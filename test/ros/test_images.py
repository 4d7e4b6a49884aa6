"""Image messages to RGB: checks, and the encodings whose pixels are picked byte by byte."""

from __future__ import annotations

import array
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros import bridge
from stream_vl_ros.ros.encodings import ENCODINGS
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.images import to_rgb

# Where red, green and blue lie in a pixel of so many bytes. Of 16 bits, the upper eight: little-endian here.
LAYOUTS = {
    "rgb8": (3, "012"),
    "bgr8": (3, "210"),
    "rgba8": (4, "012"),
    "bgra8": (4, "210"),
    "mono8": (1, "000"),
    "8UC1": (1, "000"),
    "8UC3": (3, "210"),
    "8UC4": (4, "210"),
    "rgb16": (6, "135"),
    "bgr16": (6, "531"),
    "rgba16": (8, "135"),
    "bgra16": (8, "531"),
    "mono16": (2, "111"),
}
# Bytes of a row of 5 pixels, and the rows of 3 rows of pixels.
ROWS = {
    **{encoding: (5 * size, 3) for encoding, (size, _) in LAYOUTS.items()},
    **{
        f"bayer_{pattern}{bits}": (5 * bits // 8, 3) for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)
    },
    **dict.fromkeys(("uyvy", "yuv422", "yuyv", "yuv422_yuy2"), (12, 3)),
    **dict.fromkeys(("nv12", "nv21"), (6, 5)),
    "nv24": (5, 9),
    "16UC1": (10, 3),
    "32FC1": (20, 3),
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


@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16", "mono16"])
@pytest.mark.parametrize("padding", [0, 1])
def test_byte_order(encoding, padding):
    image, picture = message(encoding, padding=padding)
    size = LAYOUTS[encoding][0]
    rows = np.frombuffer(bytes(image.data), np.uint8).reshape(3, image.step).copy()
    rows[:, : 5 * size] = rows[:, : 5 * size].reshape(3, -1, 2)[:, :, ::-1].reshape(3, -1)
    image.data, image.is_bigendian = rows.tobytes(), 1
    assert np.array_equal(to_rgb(image), picture)


@pytest.mark.parametrize("encoding", ["rgb8", "bgra8", "mono8", "uyvy", "nv12", "bayer_rggb8"])
def test_byte_order_says_nothing_about_bytes(encoding):
    step, rows = ROWS[encoding]
    image = Message(3, 5, encoding, step, np.random.default_rng(1).bytes(step * rows))
    little = to_rgb(image)
    image.is_bigendian = 1
    assert np.array_equal(to_rgb(image), little)


def test_every_encoding_is_tested():
    assert set(ROWS) == set(ENCODINGS)


def test_rgb8_without_padding_is_not_copied():
    data = np.arange(45, dtype=np.uint8)
    assert np.shares_memory(to_rgb(Message(3, 5, "rgb8", 15, data)), data)


@pytest.mark.parametrize("encoding", [encoding for encoding in ROWS if encoding != "rgb8"])
def test_others_do_not_share_memory_with_the_message(encoding):
    step, rows = ROWS[encoding]
    data = np.zeros(step * rows, np.uint8)
    picture = to_rgb(Message(3, 5, encoding, step, data))
    assert (picture.dtype, picture.shape) == (np.uint8, (3, 5, 3))
    assert picture.flags.c_contiguous
    assert picture.flags.writeable
    assert not np.shares_memory(picture, data)


def test_a_real_message():
    rgb = [[[1, 2, 3], [4, 5, 6]]]
    image = Image(height=1, width=2, encoding="bgr8", step=6, data=array.array("B", [3, 2, 1, 6, 5, 4]))
    assert to_rgb(image).tolist() == rgb


@pytest.mark.parametrize("encoding", ROWS)
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("kept", [0, 1, 0.5, -1])
def test_data_that_is_too_short(encoding, padding, kept):
    step, rows = ROWS[encoding]
    step += padding
    full = step * rows
    data = bytes(full)
    image = Message(3, 5, encoding, step, data[: int(full * kept) if 0 < kept < 1 else kept])
    text = refused(image, "short_data")
    assert f"{len(image.data)} bytes" in text
    assert f"{step} x {rows} = {full}" in text
    assert "driver" in text


@pytest.mark.parametrize("encoding", ROWS)
def test_a_step_that_is_too_small(encoding):
    row, rows = ROWS[encoding]
    image = Message(3, 5, encoding, row, bytes(row * rows))
    assert to_rgb(image).shape == (3, 5, 3)
    image.step -= 1
    text = refused(image, "bad_step")
    assert f"step {image.step}" in text
    assert f"{row} bytes" in text
    assert repr(encoding) in text
    assert "driver" in text
    image.step = 0
    refused(image, "bad_step")


@pytest.mark.parametrize("encoding", [encoding for encoding in ROWS if not encoding.startswith("nv")])
def test_padding_that_is_not_there(encoding):
    """Rows without padding, though the step says so: with a single plane there is no reason for that."""
    step, rows = ROWS[encoding]
    refused(Message(3, 5, encoding, step + 4, bytes(step * rows)), "short_data")


@pytest.mark.parametrize("encoding", ROWS)
def test_a_giant_step(encoding):
    assert "= " in refused(Message(3, 5, encoding, 2**32 - 1, bytes(1000)), "short_data")


@pytest.mark.parametrize(("height", "width"), [(0, 5), (3, 0), (0, 0)])
@pytest.mark.parametrize("encoding", ["rgb8", "nv12", "bayer_rggb8", "unheard_of"])
def test_no_pixels(encoding, height, width):
    text = refused(Message(height, width, encoding, width * 3, array.array("B")), "zero_size")
    assert f"{width}x{height}" in text


@pytest.mark.parametrize("encoding", ["rgb8", "nv12", "bayer_rggb8", "unheard_of"])
def test_giant_dimensions(encoding):
    text = refused(Message(2**32 - 1, 2**32 - 1, encoding, 2**32 - 1, bytes(10)), "too_large")
    assert "4294967295x4294967295" in text
    assert "67108864" in text


def test_the_limit_of_pixels():
    image, picture = message("bgr8")
    assert np.array_equal(to_rgb(image, ImageOptions(max_pixels=15)), picture)
    with pytest.raises(FrameError, match="more than the 14 pixels") as raised:
        to_rgb(image, ImageOptions(max_pixels=14))
    assert raised.value.reason == "too_large"


@pytest.mark.parametrize(
    "encoding", ["", "RGB8", "8UC2", "64FC1", "bayer_rggb", "bayer_rgbg8", "nv42", "rgb8; compressed"]
)
def test_an_unknown_encoding(encoding, monkeypatch):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setattr(bridge, "find_bridge", lambda: bridge.Bridge(None))
    text = refused(Message(3, 5, encoding, 15, array.array("B", bytes(45))), "unknown_encoding")
    assert repr(encoding) in text
    assert all(known in text for known in ROWS)
    assert "install ros-jazzy-cv-bridge" in text


def test_too_narrow_a_picture():
    refused(Message(1, 201, "rgb8", 603, array.array("B", bytes(603))), "aspect_ratio")


@pytest.mark.parametrize("encoding", ROWS)
def test_the_message_is_not_changed(encoding):
    step, rows = ROWS[encoding]
    image = Message(3, 5, encoding, step, bytearray(np.random.default_rng(2).bytes(step * rows)))
    before = bytes(image.data)
    to_rgb(image)
    assert bytes(image.data) == before


def test_decoding_needs_neither_ros_nor_torch():
    modules = "stream_vl_ros.ros.images, stream_vl_ros.ros.compressed"
    code = f"import sys, {modules}; print({{'rclpy', 'torch', 'cv_bridge'}} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "set()\n", run.stderr
