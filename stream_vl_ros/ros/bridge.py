"""cv_bridge, where it is installed, for encodings that are not decoded here.

It comes with ROS (ros-<distro>-cv-bridge), not from PyPI, whose package of that name is for ROS 1. Its binary half does
not import with every NumPy, and raises all kinds of errors then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Of a message and the encoding that is wanted.
Converter = Callable[[Any, str], Any]


@dataclass(frozen=True, slots=True)
class Bridge:
    """What was found.

    Attributes:
        convert: `CvBridge().imgmsg_to_cv2`; None if cv_bridge cannot be used.
        problem: why not, in words; empty if it is not installed at all.
    """

    convert: Converter | None
    problem: str = ""


@functools.cache
def find_bridge() -> Bridge:
    """Look for cv_bridge, once per process."""
    try:
        import cv_bridge

        bridge = cv_bridge.CvBridge()
        # Makes it load its binary half, which is not loaded before it is used.
        bridge.encoding_to_cvtype2("rgb8")
    except ModuleNotFoundError as error:
        return Bridge(None, "" if error.name == "cv_bridge" else f"{type(error).__name__}: {error}")
    except Exception as error:
        return Bridge(None, f"{type(error).__name__}: {error}")
    return Bridge(bridge.imgmsg_to_cv2)
