"""Bayer mosaics to RGB."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros.images import to_rgb

PATTERNS = ["rggb", "bggr", "gbrg", "grbg"]


def colour_at(pattern: str, y: int, x: int) -> str:
    return pattern[y % 2 * 2 + x % 2]


def mosaic_of(picture: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor with that filter measures of an RGB picture."""
    height, width, _ = picture.shape
    values = [
        [picture[y, x, "rgb".index(colour_at(pattern, y, x))] for x in range(width)] for y in range(height)
    ]  # fmt: skip
    return np.array(values, picture.dtype)


def decode(mosaic: np.ndarray, pattern: str, padding: int = 0) -> np.ndarray:
    height, width = mosaic.shape
    rows = np.full((height, width + padding), 77, np.uint8)
    rows[:, :width] = mosaic
    return to_rgb(
        SimpleNamespace(
            height=height,
            width=width,
            encoding=f"bayer_{pattern}8",
            is_bigendian=0,
            step=width + padding,
            data=rows.tobytes(),
        )
    )


def mirrored(i: int, size: int) -> int:
    return -i if i < 0 else 2 * size - 2 - i if i >= size else i


def defined(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """Every colour is what the pixel measured, or else the mean of the neighbours, corners included, that did."""
    height, width = mosaic.shape
    picture = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            for channel, colour in enumerate("rgb"):
                around = [(0, 0)] if colour_at(pattern, y, x) == colour else np.ndindex(3, 3)
                values = []
                for down, right in around:
                    dy, dx = (0, 0) if isinstance(around, list) else (down - 1, right - 1)
                    there = mirrored(y + dy, height), mirrored(x + dx, width)
                    if colour_at(pattern, y + dy, x + dx) == colour:
                        values.append(int(mosaic[there]))
                picture[y, x, channel] = int(sum(values) / len(values) + 0.5)
    return picture


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("padding", [0, 1, 64])
@pytest.mark.parametrize(("height", "width"), [(2, 2), (3, 3), (6, 8), (5, 4), (4, 5), (2, 9), (9, 2)])
def test_pixel_by_pixel(pattern, height, width, padding):
    mosaic = np.random.default_rng(3).integers(0, 256, (height, width), dtype=np.uint8)
    rgb = decode(mosaic, pattern, padding)
    assert rgb.flags.c_contiguous
    assert np.array_equal(rgb, defined(mosaic, pattern))


@given(
    pattern=st.sampled_from(PATTERNS),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    padding=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_sizes(pattern, height, width, padding, seed):
    mosaic = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    assert np.array_equal(decode(mosaic, pattern, padding), defined(mosaic, pattern))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 0, 0), (0, 200, 0), (0, 0, 200), (10, 120, 251)])
def test_one_colour_stays_as_it_is(pattern, colour):
    picture = np.full((7, 10, 3), colour, np.uint8)
    assert np.array_equal(decode(mosaic_of(picture, pattern), pattern), picture)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("slope", [(2, 0), (0, 2), (2, 4), (-2, 2), (1, 3)])
def test_a_gradient_stays_as_it_is(pattern, slope):
    """Inside, where every mean is of pixels on both sides; the border is mirrored."""
    y, x = np.mgrid[:12, :14]
    ramp = 80 + y * slope[0] + x * slope[1]
    picture = np.stack([ramp, ramp + 30, 250 - ramp], axis=-1).astype(np.uint8)
    rgb = decode(mosaic_of(picture, pattern), pattern)
    assert np.array_equal(rgb[1:-1, 1:-1], picture[1:-1, 1:-1])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("bigendian", [0, 1])
@pytest.mark.parametrize("padding", [0, 3])
def test_16_bits(pattern, bigendian, padding):
    """The upper eight bits are demosaiced."""
    values = np.random.default_rng(5).integers(0, 1 << 16, (5, 7))
    rows = np.full((5, 14 + padding), 99, np.uint8)
    rows[:, :14] = values.astype(">u2" if bigendian else "<u2").view(np.uint8).reshape(5, 14)
    image = SimpleNamespace(
        height=5,
        width=7,
        encoding=f"bayer_{pattern}16",
        is_bigendian=bigendian,
        step=14 + padding,
        data=rows.tobytes(),
    )
    assert np.array_equal(to_rgb(image), defined((values // 256).astype(np.uint8), pattern))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (6, 1)])
def test_too_small_a_picture(bits, height, width):
    image = SimpleNamespace(
        height=height, width=width, encoding=f"bayer_rggb{bits}", is_bigendian=0, step=64, data=bytes(64 * 6)
    )
    with pytest.raises(FrameError, match=f"{width}x{height}.*2x2") as raised:
        to_rgb(image)
    assert raised.value.reason == "too_small"
