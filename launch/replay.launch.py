"""Starts the node and replays a recording to it. Each argument of stream_vl.launch.py is one here as well.

`ros2 launch stream_vl_ros replay.launch.py bag:=my_bag`; `--show-args` lists them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EnvironmentVariable
from launch_ros.substitutions import ExecutableInPackage

from stream_vl_ros.bag.ask_settings import settings
from stream_vl_ros.errors import ConfigError

SHARE = Path(get_package_share_directory("stream_vl_ros"))
OWN = (
    ("bag", None, "Recording to replay: a rosbag2 folder, or one .mcap or .db3 file."),
    ("bag_topic", "", "Image topic in it; empty: the only one. It is published on image_topic."),
    ("rate", "1.0", "Speed; 2 is twice as fast."),
    ("start", "0.0", "Seconds to leave out at the beginning."),
    ("loop", "false", "Begin again at the end. One of true, false."),
)


def generate_launch_description() -> LaunchDescription:
    """The arguments, the node, and the replay."""
    node = PythonLaunchDescriptionSource(str(SHARE / "launch" / "stream_vl.launch.py"))
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(name, default_value=value, description=words) for name, value, words in OWN),
            IncludeLaunchDescription(node),
            OpaqueFunction(function=replay),
        ]
    )


def watched(texts: Mapping[str, str]) -> str:
    """The topic that the node watches. Raises `ConfigError` if there are several."""
    file = Path(texts["params_file"]).expanduser()
    said = settings(file, (), {}) if file.is_file() else None  # the node says that there is none
    if texts["cameras"] or (said is not None and said.streams):
        raise ConfigError(
            "replay.launch.py plays one camera, and the node is to watch several: start multi_camera.launch.py, and "
            "`ros2 run stream_vl_ros replay BAG --topic ... --to ...` for each of them"
        )
    topic = texts["image_topic"] or str(said.values["image_topic"] if said is not None else "/camera/image_raw")
    return topic if topic.startswith("/") else f"/{texts['namespace'].strip('/')}/{topic}".replace("//", "/")


def replay(context: LaunchContext) -> list[ExecuteProcess]:
    """The replay, once the node is there to see it."""
    texts = context.launch_configurations
    bag = Path(texts["bag"]).expanduser()
    if not bag.exists():
        raise ConfigError(f"launch argument bag:={bag}: there is no such recording")
    if texts["loop"].lower() not in ("true", "false"):
        raise ConfigError(f"launch argument loop:={texts['loop']}: must be true or false")
    topic = watched(texts)
    options = ["--topic", texts["bag_topic"]] if texts["bag_topic"] else []
    options += ["--to", topic, "--rate", texts["rate"], "--start", texts["start"]]
    options += ["--loop"] if texts["loop"].lower() == "true" else []
    options += ["--clock"] if texts["use_sim_time"].lower() == "true" else []
    return [
        ExecuteProcess(
            name="replay",
            # The node subscribes when its model is loaded, which may take minutes.
            cmd=[
                ExecutableInPackage("replay", "stream_vl_ros"),
                str(bag),
                *options,
                "--wait-for-subscribers",
                "1",
                "--wait-timeout",
                "600",
            ],
            additional_env={
                "FASTDDS_BUILTIN_TRANSPORTS": EnvironmentVariable(
                    "FASTDDS_BUILTIN_TRANSPORTS", default_value="LARGE_DATA"
                )
            },
            output="screen",
        )
    ]
