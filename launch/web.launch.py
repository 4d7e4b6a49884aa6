"""Starts the node and its live page. Each argument of stream_vl.launch.py is one here as well.

`ros2 launch stream_vl_ros web.launch.py`; `--show-args` lists them all; `node:=false` starts the page alone.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.parameters import Parameter, Value
from stream_vl_ros.web.options import PARAMETERS

SHARE = Path(get_package_share_directory("stream_vl_ros"))
# The name of the node follows from namespace and node_name.
PAGE = tuple(p for p in PARAMETERS if p.name != "node")


def generate_launch_description() -> LaunchDescription:
    """The arguments, the node, and the page."""
    node = PythonLaunchDescriptionSource(str(SHARE / "launch" / "stream_vl.launch.py"))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "node",
                default_value="true",
                description="Start the node as well; false if it runs already, here or on another machine. One of "
                "true, false.",
            ),
            *(argument(p) for p in PAGE),
            IncludeLaunchDescription(node, condition=IfCondition(LaunchConfiguration("node"))),
            # Declared once more, for the page alone.
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
            DeclareLaunchArgument("node_name", default_value="stream_vl", description="Name of the node."),
            OpaqueFunction(function=page),
        ]
    )


def argument(parameter: Parameter) -> DeclareLaunchArgument:
    """`parameter` as `--show-args` presents it."""
    default = str(parameter.default).lower() if isinstance(parameter.default, bool) else str(parameter.default)
    limits = "" if parameter.low is None else f" From {parameter.low:.10g} to {parameter.high:.10g}."
    return DeclareLaunchArgument(parameter.name, default_value=default, description=parameter.description + limits)


def value(parameter: Parameter, text: str) -> Value:
    """`text` as the type of `parameter`, checked. Raises `ConfigError` with the reason."""
    kind = type(parameter.default)
    try:
        typed = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise ConfigError(f"launch argument {parameter.name}:={text}: {parameter.description}") from None
    return parameter.check(typed)


def page(context: LaunchContext) -> list[Node]:
    """The page, with the arguments of this launch."""
    texts = context.launch_configurations
    values = {p.name: value(p, texts[p.name]) for p in PAGE}
    full = "/".join(part for part in (texts["namespace"].strip("/"), texts["node_name"]) if part)
    values["node"] = f"/{full}"
    return [
        Node(
            package="stream_vl_ros",
            executable="web",
            namespace=texts["namespace"],
            # With its type, so that text which looks like a number stays text.
            parameters=[{name: ParameterValue(v, value_type=type(v)) for name, v in values.items()}],
            additional_env={
                "FASTDDS_BUILTIN_TRANSPORTS": EnvironmentVariable(
                    "FASTDDS_BUILTIN_TRANSPORTS", default_value="LARGE_DATA"
                )
            },
            output="screen",
        )
    ]
