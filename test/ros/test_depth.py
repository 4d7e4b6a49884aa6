"""Depth images to gray."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.images import to_rgb

NAN, INF = math.nan, math.inf


def message(values: object, encoding: str, bigendian: int = 0, padding: int = 0) -> SimpleNamespace:
    size = {"16UC1": 2, "32FC1": 4}[encoding]
    kind = (">" if bigendian else "<") + {2: "u2", 4: "f4"}[size]
    array = np.array(values, kind)
    height, width = array.shape
    rows = np.full((height, width * size + padding), 99, np.uint8)
    rows[:, : width * size] = array.view(np.uint8).reshape(height, -1)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=bigendian,
        step=width * size + padding,
        data=rows.tobytes(),
    )


def gray(values: object, encoding: str, depth_max_m: float = 10.0, bigendian: int = 0, padding: int = 0) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rgb = to_rgb(message(values, encoding, bigendian, padding), ImageOptions(depth_max_m=depth_max_m))
    assert (rgb.dtype, rgb.shape[2]) == (np.uint8, 3)
    assert rgb.flags.c_contiguous
    assert (rgb == rgb[:, :, :1]).all()
    return rgb[:, :, 0]


def defined(metres: float, depth_max_m: float) -> float:
    """The level before it is rounded."""
    if not math.isfinite(metres) or metres <= 0:
        return 0.0
    return 255 - 254 * min(metres / depth_max_m, 1.0)


@pytest.mark.parametrize(
    ("metres", "level"),
    [
        (0.001, 255),
        (0.01, 255),
        (2.5, 192),
        (5.0, 128),
        (7.5, 65),
        (9.99, 1),
        (10.0, 1),
        (10.1, 1),
        (3.4e38, 1),
        (1e-45, 255),
        (0.0, 0),
        (-0.0, 0),
        (-1.0, 0),
        (NAN, 0),
        (INF, 0),
        (-INF, 0),
    ],
)
def test_levels_of_metres(metres, level):
    assert gray([[metres]], "32FC1").tolist() == [[level]]


@pytest.mark.parametrize(
    ("millimetres", "level"), [(0, 0), (1, 255), (2500, 192), (5000, 128), (7500, 65), (10000, 1), (65535, 1)]
)
def test_levels_of_millimetres(millimetres, level):
    assert gray([[millimetres]], "16UC1").tolist() == [[level]]


@given(
    values=st.lists(st.floats(width=32), min_size=6, max_size=6),
    depth_max_m=st.floats(0.1, 1000),
    bigendian=st.integers(0, 1),
    padding=st.integers(0, 5),
)
def test_metres(values, depth_max_m, bigendian, padding):
    levels = gray(np.reshape(values, (2, 3)), "32FC1", depth_max_m, bigendian, padding)
    for level, metres in zip(levels.flat, values, strict=True):
        assert abs(level - defined(metres, depth_max_m)) <= 0.501
        assert (level == 0) == (not math.isfinite(metres) or metres <= 0)


@given(
    values=st.lists(st.integers(0, 65535), min_size=6, max_size=6),
    depth_max_m=st.floats(0.1, 1000),
    bigendian=st.integers(0, 1),
    padding=st.integers(0, 5),
)
def test_millimetres(values, depth_max_m, bigendian, padding):
    levels = gray(np.reshape(values, (3, 2)), "16UC1", depth_max_m, bigendian, padding)
    for level, millimetres in zip(levels.flat, values, strict=True):
        assert abs(level - defined(millimetres / 1000, depth_max_m)) <= 0.501
        assert (level == 0) == (millimetres == 0)


@pytest.mark.parametrize("depth_max_m", [0.5, 4.0, 10.0, 65.0])
def test_both_units_give_the_same(depth_max_m):
    millimetres = np.arange(65536).reshape(256, 256)
    metres = (millimetres / 1000).astype(np.float32)
    assert np.array_equal(gray(millimetres, "16UC1", depth_max_m), gray(metres, "32FC1", depth_max_m))


def test_nearer_is_brighter():
    levels = gray(np.linspace(0.01, 10, 2000).reshape(40, 50), "32FC1").ravel().astype(int)
    assert (np.diff(levels) <= 0).all()
    assert (np.diff(levels) >= -1).all()
    assert (levels[0], levels[-1]) == (255, 1)


@pytest.mark.parametrize(("encoding", "unit"), [("16UC1", 1000), ("32FC1", 1)])
def test_a_pixel_does_not_depend_on_the_others(encoding, unit):
    """No scale of the frame's own, which would flicker."""
    alone = gray([[3 * unit, 3 * unit]], encoding)
    beside = gray([[3 * unit, 9 * unit]], encoding)
    assert alone[0, 0] == beside[0, 0]
    assert alone[0, 0] == gray([[3 * unit, 0]], encoding)[0, 0]


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_the_byte_order_matters(encoding):
    image = message([[3, 1000]], encoding, bigendian=1)
    right = to_rgb(image)
    image.is_bigendian = 0
    assert not np.array_equal(to_rgb(image), right)
