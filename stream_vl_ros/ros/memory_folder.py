"""Where the node's saved memories are.

Plain data: importing it needs no ROS.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stream_vl_ros.ros.parameters import Value


def memory_folder(values: Mapping[str, Value], stream: str) -> Path:
    """The folder in which each memory of a stream is one; a node of several has one for each of them inside its own."""
    given = str(values["memory_folder"])
    home = os.environ.get("ROS_HOME") or "~/.ros"
    return Path(os.path.expanduser(given or f"{home}/stream_vl_memories")) / stream  # noqa: PTH111  # never raises
