"""config/stream_vl.yaml says what PARAMETERS says: names, types, defaults, descriptions, limits.

`python test/launch/test_parameters.py > config/stream_vl.yaml` writes the file anew.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import yaml

from stream_vl_ros.ros import stream_parameters, watch_parameters
from stream_vl_ros.ros.parameters import PARAMETERS, Parameter, checked

CONFIG = Path(__file__).parents[2] / "config" / "stream_vl.yaml"
HEADER = """\
# Every parameter of the node with its default. `ros2 param set` changes those that say "live" at once. Those that say
# "unconfigured" are read when the node is configured: change them before, or clean it up first.
#
#   ros2 run stream_vl_ros stream_vl_node --ros-args --params-file my.yaml
#   ros2 launch stream_vl_ros stream_vl.launch.py params_file:=my.yaml
#
# /** is any node in any namespace; parameters that a file leaves out keep their default.
/**:
  ros__parameters:
"""
KINDS = {str: "Text", int: "Whole number", float: "Number", bool: "True or false"}


def limits(parameter: Parameter) -> str:
    """Type and allowed values of one parameter."""
    if parameter.allowed:
        return f"One of {', '.join(parameter.allowed)}."
    if parameter.low is None or parameter.high is None:
        return f"{KINDS[type(parameter.default)]}."
    kind = KINDS[type(parameter.default)]
    return f"{kind} from {parameter.low:.10g} to {parameter.high:.10g}."


def rendered() -> str:
    """The whole file, from PARAMETERS."""
    entries = []
    for parameter in PARAMETERS:
        lines = textwrap.wrap(parameter.description, 100, initial_indent="    # ", subsequent_indent="    # ")
        lines.append(f"    # {limits(parameter)} Changes: {parameter.changes}.")
        # JSON is YAML, and its text is quoted whatever it looks like.
        lines.append(f"    {parameter.name}: {json.dumps(parameter.default)}")
        entries.append("\n".join(lines) + "\n")
    return HEADER + "\n".join([*entries, stream_parameters.EXAMPLE, watch_parameters.EXAMPLE])


def shipped() -> dict[str, object]:
    return yaml.safe_load(CONFIG.read_text())["/**"]["ros__parameters"]


def test_names_and_order() -> None:
    assert list(shipped()) == [p.name for p in PARAMETERS]


def test_defaults_and_their_types() -> None:
    # repr() tells 1 from 1.0 and from True: rclpy refuses a value of another type.
    assert {k: repr(v) for k, v in shipped().items()} == {p.name: repr(p.default) for p in PARAMETERS}


def test_nothing_else_and_for_any_node() -> None:
    document = yaml.safe_load(CONFIG.read_text())
    assert list(document) == ["/**"]
    assert list(document["/**"]) == ["ros__parameters"]


def test_values_are_allowed() -> None:
    assert checked(shipped()) == shipped()  # type: ignore[arg-type]


def test_descriptions_types_and_limits() -> None:
    assert CONFIG.read_text() == rendered(), (
        "write it anew: python test/launch/test_parameters.py > config/stream_vl.yaml"
    )


def test_every_number_has_limits() -> None:
    for parameter in PARAMETERS:
        if type(parameter.default) in (int, float):
            assert parameter.low is not None, parameter.name
            assert parameter.high is not None, parameter.name
            assert parameter.low < parameter.high


if __name__ == "__main__":
    print(rendered(), end="")
