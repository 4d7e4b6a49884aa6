"""Standing questions among the node's parameters: a list of names, and a group of parameters for each name.

Plain data: importing it needs no ROS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream_vl_ros.brief import shown
from stream_vl_ros.engine.watch import DEFAULT_HYSTERESIS, DEFAULT_OPTIONS, DEFAULT_THRESHOLD, Watch, check_name
from stream_vl_ros.errors import ConfigError, StreamVLError
from stream_vl_ros.ros.name_lists import names_in

NAMES = "watches"
GROUP = "watch"
# Of the parameters of a watch, the one that says where it is asked, not what.
STREAM = "stream"


class NotNamedError(ConfigError):
    """A watch is described, but not among those that are asked."""


@dataclass(frozen=True, slots=True)
class WatchParameter:
    """A parameter ``watch.NAME.name``; `default` in words."""

    name: str
    kind: type
    default: str
    description: str


WATCH_PARAMETERS = (
    WatchParameter("question", str, "", "What is asked after every chunk of video. Needed."),
    WatchParameter("options", list, str(list(DEFAULT_OPTIONS)), "What may be answered; two at least, each in quotes."),
    WatchParameter("fires_on", str, "the first", "The option that makes it fire."),
    WatchParameter(
        "threshold",
        float,
        str(DEFAULT_THRESHOLD),
        "Probability of that option, among the options, from which on it fires; above 0, at most 1.",
    ),
    WatchParameter(
        "hysteresis",
        float,
        str(DEFAULT_HYSTERESIS),
        "It stops firing when the probability falls below threshold - hysteresis.",
    ),
    WatchParameter("min_interval", float, "0.0", "Seconds between two events, by header stamp; 0 tells every change."),
    WatchParameter(STREAM, str, "all", "Camera that it is about, with several `streams`; each is asked on its own."),
)
NAMES_DESCRIPTION = f"Standing questions that are asked from the start; each name has its parameters {GROUP}.NAME.*"

# For the end of a parameter file, indented as it is there.
EXAMPLE = """\
    # Standing questions: a list of names, and what is asked under each name. There are none unless you set them.
    # Quote the options: YAML reads a bare yes as true. `fires_on` and what follows it may be left out.
    #
    # watches: ["person", "door"]
    # watch:
    #   person:
    #     question: "Is there a person in front of the robot?"
    #   door:
    #     question: "Is the door open or shut?"
    #     options: ["open", "shut"]
    #     fires_on: "open"
    #     threshold: 0.8
    #     hysteresis: 0.2
    #     min_interval: 5.0
    #     stream: "front"
"""

_KINDS = {str: "text", float: "a number", list: "a list of texts, such as ['yes', 'no']"}
_KNOWN = {p.name: p for p in WATCH_PARAMETERS}


def parameter_names(name: str) -> list[str]:
    """The parameters of the watch of this name."""
    return [f"{GROUP}.{name}.{p.name}" for p in WATCH_PARAMETERS]


def check_names(value: object) -> list[str]:
    """The names in the value of `watches`. Raises `ConfigError` if it is no list of names."""
    return names_in(NAMES, value, "['person', 'door']", check_name)


def watch_of(name: str, values: Mapping[str, object]) -> Watch:
    """The watch of a name, from values by full parameter name; None is not set.

    Raises `ConfigError` with the parameter, its value and the reason.
    """
    given: dict[str, Any] = {}
    for parameter in WATCH_PARAMETERS:
        full = f"{GROUP}.{name}.{parameter.name}"
        value = values.get(full)
        if value is not None:
            typed = _typed(full, parameter, value)
            if parameter.name != STREAM:
                given[parameter.name] = typed
    if "question" not in given:
        raise ConfigError(f"parameter {GROUP}.{name}.question: not set, but {NAMES} names {name!r}; say what to ask")
    try:
        return Watch(name, **given)
    except StreamVLError as error:
        raise ConfigError(f"parameter {GROUP}.{name}: {error}") from error


def check_leftovers(given: Iterable[str], names: Sequence[str]) -> None:
    """Raise `ConfigError` for a parameter that was given and is none of a watch's.

    Raises `NotNamedError` for one of a watch that is not named.
    """
    known = {full for name in names for full in parameter_names(name)}
    for full in sorted(given):
        if not full.startswith(f"{GROUP}.") or full in known:
            continue
        name, _, field = full.removeprefix(f"{GROUP}.").rpartition(".")
        if field not in _KNOWN:
            raise ConfigError(f"parameter {full}: a watch has no such parameter; there are {', '.join(_KNOWN)}")
        raise NotNamedError(f"parameter {full}: {NAMES} does not name {name!r}; add it to {NAMES}={list(names)}")


def _typed(full: str, parameter: WatchParameter, value: object) -> object:
    kind = parameter.kind
    if kind is float and type(value) is int:
        return float(value)
    if kind is list and isinstance(value, (list, tuple)) and value and all(isinstance(o, str) for o in value):
        return tuple(value)
    if kind is not list and type(value) is kind:
        return value
    listed = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    quotes = "; put texts like yes and no in quotes" if kind in (str, list) else ""
    raise ConfigError(f"parameter {full}={shown(listed)}: must be {_KINDS[kind]}{quotes}; {parameter.description}")


def markdown() -> str:
    """The table of these parameters for the README."""
    lines = ["| parameter | default | meaning |", "|---|---|---|", f"| `{NAMES}` | `[]` | {NAMES_DESCRIPTION} |"]
    for p in WATCH_PARAMETERS:
        default = p.default if p.kind is str else f"`{p.default}`"
        lines.append(f"| `{GROUP}.NAME.{p.name}` | {default} | {p.description} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
