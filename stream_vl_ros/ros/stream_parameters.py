"""Several cameras among the node's parameters: a list of names, and a group of parameters for each name.

Plain data: importing it needs no ROS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from stream_vl_ros.brief import shown
from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.name_lists import names_in
from stream_vl_ros.ros.parameters import PARAMETERS, Value, checked

NAMES = "streams"
GROUP = "stream"
NAMES_DESCRIPTION = (
    "Cameras that are watched with one model, by name; each name has its parameters stream.NAME.*. Empty: the one of "
    "image_topic."
)
# In a request: all of them.
ALL = "all"

# For the end of a parameter file, indented as it is there.
EXAMPLE = """\
    # Several cameras on one model: a list of names, and what is different for each of them. What is not set under a
    # name is as above; a camera's topic is NAME/image_raw unless it is set.
    #
    # streams: ["front", "rear"]
    # stream:
    #   front:
    #     image_topic: "/front/color/image_raw"
    #     target_fps: 4.0
    #   rear:
    #     image_topic: "/rear/color/image_raw"
    #     eviction: "window"
    #     budget_seconds: 120.0
"""

OF_A_STREAM = tuple(p for p in PARAMETERS if not p.shared)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_KNOWN = {p.name for p in OF_A_STREAM}


def parameter_names(name: str) -> list[str]:
    """The parameters of the stream of this name."""
    return [f"{GROUP}.{name}.{p.name}" for p in OF_A_STREAM]


def check_names(value: object) -> list[str]:
    """The names in the value of `streams`. Raises `ConfigError` if it is no list of names."""
    return names_in(NAMES, value, "['front', 'rear']", _check_name)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name == ALL:
        raise ConfigError(
            f"{shown(name)} is no name of a stream; a name is a letter, then letters, digits and underscores, 64 "
            f"at the most, and not {ALL!r}, which means all of them"
        )


def values_of(name: str, given: Mapping[str, object], shared: Mapping[str, Value]) -> dict[str, Value]:
    """All parameters as they hold for one stream, checked.

    Args:
        name: the stream's.
        given: values by full parameter name; None is not set.
        shared: the parameters of the node, checked.

    Raises:
        ConfigError: with the parameter, its value and the reason.
    """
    own: dict[str, Value] = {"image_topic": f"{name}/image_raw"}
    for parameter in OF_A_STREAM:
        value = given.get(f"{GROUP}.{name}.{parameter.name}")
        if value is not None:
            own[parameter.name] = value  # type: ignore[assignment]  # `checked` looks at it
    try:
        return checked({**shared, **own})
    except ConfigError as error:
        text = str(error)
        named = f"parameter {GROUP}.{name}.{text.removeprefix('parameter ')}"
        raise ConfigError(named if text.startswith("parameter ") else f"parameter {GROUP}.{name}: {text}") from error


def check_leftovers(given: Iterable[str], names: Sequence[str]) -> None:
    """Raise `ConfigError` for a parameter that was given and belongs to no stream."""
    for full in sorted(given):
        if not full.startswith(f"{GROUP}."):
            continue
        name, _, field = full.removeprefix(f"{GROUP}.").rpartition(".")
        if field not in _KNOWN:
            raise ConfigError(
                f"parameter {full}: a stream has no such parameter of its own; there are {', '.join(sorted(_KNOWN))}"
            )
        if name not in names:
            raise ConfigError(f"parameter {full}: {NAMES} does not name {name!r}; add it to {NAMES}={list(names)}")


def markdown() -> str:
    """The table of these parameters for the README."""
    return "\n".join(
        [
            "| parameter | default | changes | meaning |",
            "|---|---|---|---|",
            f"| `{NAMES}` | `[]` | never | {NAMES_DESCRIPTION} |",
            f"| `{GROUP}.NAME.image_topic` | `NAME/image_raw` | unconfigured | Topic of this camera. |",
            f"| `{GROUP}.NAME.*` | that of the node | as there | Every parameter above that is marked 'per stream'. |",
        ]
    )


if __name__ == "__main__":
    print(markdown())
