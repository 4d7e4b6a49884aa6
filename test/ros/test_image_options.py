"""Settings of the decoders."""

from __future__ import annotations

import pytest

from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.image_options import ImageOptions


def test_defaults():
    assert ImageOptions() == ImageOptions(depth_max_m=10.0, max_pixels=8192 * 8192)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_range_of_depth_that_cannot_be(value):
    with pytest.raises(ConfigError, match=f"depth_max_m={value}: must be a positive number of metres"):
        ImageOptions(depth_max_m=value)


@pytest.mark.parametrize("value", [0, -5])
def test_a_limit_of_pixels_that_cannot_be(value):
    with pytest.raises(ConfigError, match=f"max_pixels={value}: must be at least 1"):
        ImageOptions(max_pixels=value)
