"""Starts the node for several cameras on one model. Each argument of stream_vl.launch.py is one here as well.

`ros2 launch stream_vl_ros multi_camera.launch.py cameras:=front=/front/image_raw,rear=/rear/image_raw`
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

SHARE = Path(get_package_share_directory("stream_vl_ros"))


def generate_launch_description() -> LaunchDescription:
    """The cameras, and the node."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "cameras",
                default_value="front=/front/image_raw,rear=/rear/image_raw",
                description="NAME=TOPIC of each camera, with commas between them. What is different for each of them "
                "besides, such as a budget, goes into params_file under stream.NAME.",
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(SHARE / "launch" / "stream_vl.launch.py"))),
        ]
    )
