"""Which pictures can be used at all. NumPy only, so that it is cheap to import."""

from __future__ import annotations

import numpy as np

from stream_vl_ros.errors import FrameError

# Narrower pictures than this are refused by the vision tower's own resizing rule.
MAX_ASPECT_RATIO = 200


def check_size(height: int, width: int) -> None:
    """Raise `FrameError` for a picture that no vision tower could see anything in."""
    if height < 1 or width < 1:
        raise FrameError(
            "zero_size", f"picture of {width}x{height} pixels: it is empty; check the camera driver's resolution"
        )
    if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
        raise FrameError(
            "aspect_ratio",
            f"picture of {width}x{height} pixels: one side is more than {MAX_ASPECT_RATIO} times the other; "
            "crop it before it gets here",
        )


def check_pixels(pixels: np.ndarray) -> None:
    """Raise `FrameError` unless `pixels` is a non-empty uint8 array of shape (height, width, 3)."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise FrameError(
            "bad_array",
            f"picture of shape {tuple(pixels.shape)} and dtype {pixels.dtype}: expected uint8 of shape "
            "(height, width, 3) in RGB order",
        )
    check_size(pixels.shape[0], pixels.shape[1])
