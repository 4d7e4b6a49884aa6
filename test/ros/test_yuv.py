"""YUV images to RGB, against the equations of BT.601, values from OpenCV, and FFmpeg's swscale."""

from __future__ import annotations

from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros.images import to_rgb

PACKED = {"uyvy": "UYVY", "yuv422": "UYVY", "yuyv": "YUYV", "yuv422_yuy2": "YUYV"}
SEMI_PLANAR = ("nv12", "nv21", "nv24")

# Y, U, V: red, green, blue; what cv2.cvtColor of OpenCV 5.0 makes of them (COLOR_YUV2RGB_UYVY).
OPENCV = {
    (16, 128, 128): (0, 0, 0),
    (235, 128, 128): (255, 255, 255),
    (0, 128, 128): (0, 0, 0),
    (255, 128, 128): (255, 255, 255),
    (81, 90, 240): (254, 0, 0),
    (145, 54, 34): (0, 255, 1),
    (41, 240, 110): (0, 0, 255),
    (128, 0, 255): (255, 77, 0),
    (128, 255, 0): (0, 185, 255),
    (17, 129, 127): (0, 2, 3),
    (200, 16, 16): (35, 255, 0),
    (100, 200, 50): (0, 133, 243),
    (60, 77, 213): (187, 2, 0),
    (180, 140, 120): (178, 193, 215),
    (15, 128, 129): (2, 0, 0),
    (126, 127, 128): (128, 128, 126),
}


def message(encoding: str, height: int, width: int, step: int, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(height=height, width=width, encoding=encoding, is_bigendian=0, step=step, data=data)


def row_bytes(encoding: str, width: int) -> int:
    pairs = (width + 1) // 2
    return {"nv24": width, "nv12": 2 * pairs, "nv21": 2 * pairs}.get(encoding, 4 * pairs)


def row_count(encoding: str, height: int) -> int:
    return {"nv24": 3 * height, "nv12": height + (height + 1) // 2, "nv21": height + (height + 1) // 2}.get(
        encoding, height
    )


def yuv_at(encoding: str, data: bytes, height: int, step: int, y: int, x: int) -> tuple[int, int, int]:
    """Y, U and V of one pixel, from the tables of V4L2's documentation."""
    if encoding in PACKED:
        order, group = PACKED[encoding], y * step + x // 2 * 4
        luma = [i for i in range(4) if order[i] == "Y"][x % 2]
        return data[group + luma], data[group + order.index("U")], data[group + order.index("V")]
    row, column = (2 * y, 2 * x) if encoding == "nv24" else (y // 2, x // 2 * 2)
    pair = (height + row) * step + column
    first, second = data[pair], data[pair + 1]
    u, v = (second, first) if encoding == "nv21" else (first, second)
    return data[y * step + x], u, v


def bt601(y: int, u: int, v: int) -> list[float]:
    """Limited range; kr = 0.299, kb = 0.114."""
    kr, kb = 0.299, 0.114
    luma = (max(y, 16) - 16) / 219
    pr, pb = (v - 128) / 112 * (1 - kr), (u - 128) / 112 * (1 - kb)
    rgb = luma + pr, luma - (kr * pr + kb * pb) / (1 - kr - kb), luma + pb
    return [min(max(255 * value, 0.0), 255.0) for value in rgb]


def random_message(encoding: str, height: int, width: int, padding: int, seed: int = 0) -> SimpleNamespace:
    step = row_bytes(encoding, width) + padding
    data = np.random.default_rng(seed).bytes(step * row_count(encoding, height))
    return message(encoding, height, width, step, data)


def assert_right(image: SimpleNamespace) -> None:
    height, width = image.height, image.width
    defined = [
        [bt601(*yuv_at(image.encoding, image.data, height, image.step, y, x)) for x in range(width)]
        for y in range(height)
    ]
    rgb = to_rgb(image)
    assert (rgb.dtype, rgb.shape) == (np.uint8, (height, width, 3))
    assert rgb.flags.c_contiguous
    # Half a level of rounding, and factors that OpenCV rounds to three digits.
    assert np.abs(rgb - np.array(defined)).max() < 0.75


@pytest.mark.parametrize("encoding", [*PACKED, *SEMI_PLANAR])
@pytest.mark.parametrize("padding", [0, 1, 7, 64])
@pytest.mark.parametrize(("height", "width"), [(4, 6), (3, 5), (1, 1), (2, 1), (1, 2), (5, 4), (4, 5)])
def test_pixel_by_pixel(encoding, height, width, padding):
    assert_right(random_message(encoding, height, width, padding))


@given(
    encoding=st.sampled_from([*PACKED, *SEMI_PLANAR]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_sizes(encoding, height, width, padding, seed):
    assert_right(random_message(encoding, height, width, padding, seed))


@pytest.mark.parametrize("encoding", [*PACKED, *SEMI_PLANAR])
def test_a_picture_of_several_bands(encoding):
    """So wide and high that it is converted in several parts, of which the last is a smaller one."""
    image = random_message(encoding, 301, 701, 5)
    rgb = to_rgb(image)
    for y, x in [(0, 0), (45, 700), (46, 0), (47, 3), (93, 350), (150, 699), (299, 1), (300, 0), (300, 700)]:
        assert rgb[y, x] == pytest.approx(bt601(*yuv_at(encoding, image.data, 301, image.step, y, x)), abs=0.75)
    # Each row alone gives the same.
    if encoding in PACKED:
        for y in range(301):
            row = image.data[y * image.step : (y + 1) * image.step]
            assert np.array_equal(to_rgb(message(encoding, 4, 701, image.step, row * 4))[0], rgb[y])


@pytest.mark.parametrize(("yuv", "rgb"), OPENCV.items())
def test_as_opencv(yuv, rgb):
    y, u, v = yuv
    for encoding, order in PACKED.items():
        data = bytes({"Y": y, "U": u, "V": v}[letter] for letter in order)
        assert to_rgb(message(encoding, 1, 2, 4, data)).tolist() == [[list(rgb)] * 2]
    assert to_rgb(message("nv12", 2, 2, 2, bytes([y, y, y, y, u, v]))).tolist() == [[list(rgb)] * 2] * 2
    assert to_rgb(message("nv21", 2, 2, 2, bytes([y, y, y, y, v, u]))).tolist() == [[list(rgb)] * 2] * 2
    assert to_rgb(message("nv24", 1, 2, 2, bytes([y, y, u, v, u, v]))).tolist() == [[list(rgb)] * 2]


@pytest.mark.parametrize(
    ("encoding", "theirs"),
    [("uyvy", "uyvy422"), ("yuyv", "yuyv422"), ("nv12", "nv12"), ("nv21", "nv21"), ("nv24", "nv24")],
)
def test_as_swscale(encoding, theirs):
    """FFmpeg interpolates chroma, so that is the same all over; its fast conversion is up to three levels off.

    With the matrix of BT.709, or full range, it would be more than ten.
    """
    generator = np.random.default_rng(8)
    height, width = 16, 32
    for u, v in [(128, 128), (60, 200), (220, 40), (100, 110)]:
        image = random_message(encoding, height, width, 0)
        rows = np.frombuffer(image.data, np.uint8).reshape(-1, image.step).copy()
        luma = generator.integers(50, 200, (height, width), dtype=np.uint8)
        if encoding in PACKED:
            for i, letter in enumerate(PACKED[encoding]):
                rows[:, i::4] = luma[:, (1 if i > 1 else 0) :: 2] if letter == "Y" else {"U": u, "V": v}[letter]
            planes = [rows]
        else:
            rows[:height] = luma
            rows[height:, 0::2], rows[height:, 1::2] = (v, u) if encoding == "nv21" else (u, v)
            planes = [rows[:height], rows[height:].reshape(-1, 2 * width) if encoding == "nv24" else rows[height:]]
        frame = av.VideoFrame(width, height, theirs)
        for plane, values in zip(frame.planes, planes, strict=True):
            padded = np.zeros((plane.height, plane.line_size), np.uint8)
            padded[:, : values.shape[1]] = values
            plane.update(padded.tobytes())
        image.data = rows.tobytes()
        expected = frame.reformat(format="rgb24").to_ndarray()
        assert np.abs(to_rgb(image).astype(int) - expected).max() <= 3


@pytest.mark.parametrize("encoding", SEMI_PLANAR)
@pytest.mark.parametrize(("height", "width"), [(4, 6), (3, 5)])
def test_a_step_that_counts_all_planes(encoding, height, width):
    """What depthai-ros makes: step = size of the data / height. Others give width x channels."""
    image = random_message(encoding, height, width, 0)
    expected = to_rgb(image)
    for step in (len(image.data) // height, 2 * width):
        image.step = step
        assert np.array_equal(to_rgb(image), expected)
    image.data = image.data[:-1]
    with pytest.raises(FrameError, match="was cut off") as raised:
        to_rgb(image)
    assert raised.value.reason == "short_data"


@pytest.mark.parametrize("encoding", PACKED)
def test_an_odd_width_needs_its_last_pair(encoding):
    with pytest.raises(FrameError, match="step 10 is less than the 12 bytes of a row of 5 pixels") as raised:
        to_rgb(message(encoding, 2, 5, 10, bytes(100)))
    assert raised.value.reason == "bad_step"


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
def test_an_odd_height_needs_its_last_row_of_chroma(encoding):
    with pytest.raises(FrameError, match="8 x 5 = 40 for 3 rows") as raised:
        to_rgb(message(encoding, 3, 6, 8, bytes(39)))
    assert raised.value.reason == "short_data"
    assert to_rgb(message(encoding, 3, 6, 8, bytes(40))).shape == (3, 6, 3)
