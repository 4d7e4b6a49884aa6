"""The node as it was installed, and the environment of the demo's processes."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from stream_vl_ros.demo.errors import DemoError

# Linux hands out ports from 32768 on, which is where domains above 101 begin.
_DOMAINS = range(20, 100)


def node_command() -> tuple[str, ...]:
    """The node as it was installed."""
    built = importlib.util.find_spec("stream_vl_ros.srv")
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_prefix
    except ImportError as err:
        raise DemoError(
            f"ROS 2 is not there: {err}. Run `make demo`, or source ROS 2 and the workspace first."
        ) from err
    try:
        node = Path(get_package_prefix("stream_vl_ros")) / "lib" / "stream_vl_ros" / "stream_vl_node"
    except PackageNotFoundError:
        node = None
    if built is None or node is None or not node.exists():
        raise DemoError("The package is not built. Run `make demo`, or `colcon build` and source its setup file first.")
    return sys.executable, str(node)


def environment() -> dict[str, str]:
    """The processes' environment: apart from other ROS systems, and fit for large images, unless the user decided."""
    return {
        "ROS_DOMAIN_ID": str(_DOMAINS[os.getpid() % len(_DOMAINS)]),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
    }


def make_folder(folder: Path) -> None:
    """Raise `DemoError` if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"--log-dir {folder} cannot be made: {error.strerror}; give another folder.") from error


def whereabouts(env: Mapping[str, str]) -> str:
    """What another terminal has to set to talk to processes of this environment."""
    names = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")
    return " ".join(f"{name}={env[name]}" for name in names if name in env)


def parameter(text: str) -> tuple[str, str]:
    """Name and value of a parameter of the node. Raises `DemoError` for what is none."""
    name, sign, value = text.partition(":=")
    if not (name and sign):
        raise DemoError(f"-p {text!r} is not a parameter; write NAME:=VALUE, such as target_fps:=4.0.")
    return name, value
