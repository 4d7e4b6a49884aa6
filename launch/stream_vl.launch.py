"""Starts the node. Each of its parameters is a launch argument; one that is given beats params_file.

`ros2 launch stream_vl_ros stream_vl.launch.py --show-args` lists them all.
"""

from __future__ import annotations

import math
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, Substitution
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import EnvironmentVariable
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.parameters import PARAMETERS, Parameter, Value
from stream_vl_ros.ros.stream_parameters import GROUP, NAMES, check_names

PARAMS_FILE = Path(get_package_share_directory("stream_vl_ros")) / "config" / "stream_vl.yaml"
LEVELS = ("debug", "info", "warn", "error", "fatal")

# Arguments of this file alone.
OWN = (
    Parameter("params_file", str(PARAMS_FILE), "YAML file with the node's parameters."),
    Parameter(
        "cameras",
        "",
        "Several cameras on one model: NAME=TOPIC for each, with commas between them. Empty: that of image_topic, or "
        "what params_file says.",
    ),
    Parameter("namespace", "", "Namespace of the node, and of an image_topic without a leading /."),
    Parameter("node_name", "stream_vl", "Name of the node: ~/ask is then /namespace/node_name/ask."),
    Parameter("log_level", "info", "What the node logs.", allowed=LEVELS),
)
# Parameters of the node: passed on only when they are given.
NODES = (*PARAMETERS, Parameter("use_sim_time", False, "Take the time from /clock."))

KINDS = {bool: "must be true or false", int: "must be a whole number", float: "must be a number"}


class NotGiven(Substitution):
    """Empty, which leaves the parameter to params_file; `--show-args` shows the node's own default."""

    def __init__(self, default: Value) -> None:
        super().__init__()
        self._text = str(default).lower() if isinstance(default, bool) else str(default)

    def describe(self) -> str:
        return f"'{self._text}', or what params_file says"

    def perform(self, context: LaunchContext) -> str:
        return ""


def generate_launch_description() -> LaunchDescription:
    """The arguments, and the node."""
    return LaunchDescription(
        [
            *(argument(p, str(p.default)) for p in OWN),
            *(argument(p, NotGiven(p.default)) for p in NODES),
            OpaqueFunction(function=start),
        ]
    )


def argument(parameter: Parameter, default: str | Substitution) -> DeclareLaunchArgument:
    """`parameter` as `--show-args` presents it."""
    limits = ""
    if parameter.allowed:
        limits = f" One of {', '.join(parameter.allowed)}."
    elif parameter.low is not None and parameter.high is not None:
        limits = f" From {parameter.low:.10g} to {parameter.high:.10g}."
    return DeclareLaunchArgument(parameter.name, default_value=default, description=parameter.description + limits)


def value(parameter: Parameter, text: str) -> Value:
    """`text` as the type of `parameter`, checked. Raises `ConfigError` with the reason."""
    kind = type(parameter.default)
    try:
        typed = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        if kind is float and not math.isfinite(typed):
            raise ValueError(text)
    except (KeyError, ValueError):
        raise ConfigError(f"launch argument {parameter.name}:={text}: {KINDS[kind]}; {parameter.description}") from None
    return parameter.check(typed)


def cameras_of(text: str) -> dict[str, str | list[str]]:
    """The parameters of several cameras. Raises `ConfigError` for what is no list of them."""
    pairs = [pair.partition("=") for pair in text.replace(" ", "").split(",") if pair]
    try:
        names = check_names([name for name, _, _ in pairs])
    except ConfigError as error:
        raise ConfigError(f"launch argument cameras:={text}: {error}") from None
    topics = {f"{GROUP}.{name}.image_topic": topic for name, _, topic in pairs if topic}
    return {NAMES: names, **topics} if names else {}


def start(context: LaunchContext) -> list[Node]:
    """The node, with the arguments of this launch."""
    texts = context.launch_configurations
    own = {p.name: value(p, texts[p.name]) for p in OWN}
    given = {p.name: value(p, texts[p.name]) for p in NODES if texts[p.name]}
    cameras = cameras_of(str(own["cameras"]))
    params_file = Path(own["params_file"]).expanduser()
    if not params_file.is_file():
        raise ConfigError(f"launch argument params_file:={params_file}: there is no such file")
    return [
        Node(
            package="stream_vl_ros",
            executable="stream_vl_node",
            namespace=own["namespace"],
            name=own["node_name"],
            parameters=[
                ParameterFile(params_file),
                # With its type, so that model:=1 stays text.
                {name: ParameterValue(v, value_type=type(v)) for name, v in given.items()},
                *([cameras] if cameras else []),
            ],
            ros_arguments=["--log-level", own["log_level"]],
            # The default transport loses every image above 512 KiB that is sent best effort.
            additional_env={
                "FASTDDS_BUILTIN_TRANSPORTS": EnvironmentVariable(
                    "FASTDDS_BUILTIN_TRANSPORTS", default_value="LARGE_DATA"
                )
            },
            output="screen",
        )
    ]
