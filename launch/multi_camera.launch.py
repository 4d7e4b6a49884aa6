"""Starts the node for several cameras on one model. Each argument of stream_vl.launch.py is one here as well.

`ros2 launch stream_vl_ros multi_camera.launch.py cameras:=front=/front/image_raw,rear=/rear/image_raw`
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetLaunchConfiguration,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource

SHARE = Path(get_package_share_directory("stream_vl_ros"))
CAMERAS = "front=/front/image_raw,rear=/rear/image_raw"


def generate_launch_description() -> LaunchDescription:
    """The cameras, and the node."""
    node = PythonLaunchDescriptionSource(str(SHARE / "launch" / "stream_vl.launch.py"))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "cameras",
                default_value="",
                description="NAME=TOPIC of each camera, with commas between them. What is different for each of them "
                "besides, such as a budget, goes into params_file under stream.NAME. Empty: what params_file says, or "
                f"{CAMERAS} if that is not given either.",
            ),
            OpaqueFunction(function=cameras),
            IncludeLaunchDescription(node),
        ]
    )


def cameras(context: LaunchContext) -> list[SetLaunchConfiguration]:
    """Two of them, if nobody says which."""
    given = context.launch_configurations
    # The node's own launch file, which has a default for it, comes later.
    if given["cameras"] or given.get("params_file"):
        return []
    return [SetLaunchConfiguration("cameras", CAMERAS)]
