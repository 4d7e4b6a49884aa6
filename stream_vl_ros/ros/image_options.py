"""How images are decoded: the settings, and the sizes that are allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stream_vl_ros.engine.pictures import check_size
from stream_vl_ros.errors import ConfigError, FrameError


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Settings of the decoders.

    Attributes:
        depth_max_m: the depth in metres at which a depth image is darkest; what lies beyond looks the same.
        max_pixels: pictures of more pixels are refused before memory is taken for them.
    """

    depth_max_m: float = 10.0
    max_pixels: int = 8192 * 8192

    def __post_init__(self) -> None:
        if not (math.isfinite(self.depth_max_m) and self.depth_max_m > 0):
            raise ConfigError(f"depth_max_m={self.depth_max_m}: must be a positive number of metres")
        if self.max_pixels < 1:
            raise ConfigError(f"max_pixels={self.max_pixels}: must be at least 1")


DEFAULTS = ImageOptions()


def check_dimensions(height: int, width: int, options: ImageOptions) -> None:
    """Raise `FrameError` (``zero_size``, ``aspect_ratio``, ``too_large``) for a size that is not decoded at all."""
    check_size(height, width)
    if height * width > options.max_pixels:
        raise FrameError(
            "too_large",
            f"picture of {width}x{height} pixels: more than the {options.max_pixels} pixels that are allowed; lower "
            "the camera's resolution, or check the driver if the camera has no such resolution",
        )
