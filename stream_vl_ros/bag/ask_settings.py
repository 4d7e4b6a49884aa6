"""With which settings a recording is read: the node's parameters, from a file and from the command line."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stream_vl_ros.brief import brief
from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros import stream_parameters
from stream_vl_ros.ros.parameters import PARAMETERS, Parameter, Value, checked
from stream_vl_ros.ros.watch_parameters import GROUP, NAMES

# The name that the node has unless it was given another one, and those that mean any node.
_SECTIONS = ("stream_vl", "*", "**")
# What every node has; a file for a robot may set it.
_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service", "qos_overrides.")

_KNOWN = {p.name: p for p in PARAMETERS}
# Parameters of a file, and sections.
_MOST = 10_000

T = TypeVar("T")
USED = (
    "model",
    "device",
    "dtype",
    "cpu_threads",
    "max_new_tokens",
    "depth_max_m",
    *(f.name for f in dataclasses.fields(StreamConfig)),
)
"""Parameters that matter to a recording. The others are about topics, and about keeping up with a camera."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Every parameter of the node with its value.

    Attributes:
        values: by name, checked.
        notes: what was given and makes no difference, in words.
        streams: names of the cameras that the file speaks of.
    """

    values: Mapping[str, Value]
    notes: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()

    @property
    def used(self) -> dict[str, Value]:
        """Those that matter to a recording."""
        return {name: value for name, value in self.values.items() if name in USED}


def settings(file: Path | None, assignments: Sequence[str], options: Mapping[str, str], stream: str = "") -> Settings:
    """Parameters from a file of ROS, then from ``NAME:=VALUE``, then from options of their own; the last one counts.

    Args:
        file: parameter file.
        assignments: as on ROS's command line.
        options: values by name.
        stream: which of the file's `streams` the recording stands for; empty leaves out what it says of them.

    Raises:
        ConfigError: the file cannot be read, or a parameter is unknown or has a value that cannot work.
    """
    notes: list[str] = []
    given: dict[str, Value] = {}
    of_streams: dict[str, Value] = {}
    if file is not None:
        for name, value in _read(file).items():
            if name == NAMES or name.startswith(f"{GROUP}."):
                notes += [f"{file}: standing questions are not asked of a recording."] if name == NAMES else []
            elif name == stream_parameters.NAMES or name.startswith(f"{stream_parameters.GROUP}."):
                of_streams[name] = value
            elif name in _KNOWN:
                given[name] = _value(_KNOWN[name], value) if isinstance(value, str) else value
            elif not name.startswith(_OF_EVERY_NODE):
                notes.append(f"{file}: {_unknown(name)} It is ignored.")
    for text in assignments:
        name, sign, value = text.partition(":=")
        if not (name and sign):
            raise ConfigError(f"-p {text!r} is not a parameter; write NAME:=VALUE, such as target_fps:=4.0.")
        if name not in _KNOWN:
            raise ConfigError(f"-p {text!r}: {_unknown(name)}")
        if name not in USED:
            notes.append(f"-p {text}: {name} makes no difference to a recording.")
        given[name] = _value(_KNOWN[name], value)
    chosen = _of_stream(stream, of_streams, notes) if of_streams or stream else {}
    given = {**given, **chosen} | {name: _value(_KNOWN[name], text) for name, text in options.items()}
    names = stream_parameters.check_names(of_streams.get(stream_parameters.NAMES))
    return Settings(checked(given), tuple(notes), tuple(names))


def _of_stream(stream: str, of_streams: Mapping[str, Value], notes: list[str]) -> dict[str, Value]:
    """What the file says of one stream."""
    names = stream_parameters.check_names(of_streams.get(stream_parameters.NAMES))
    stream_parameters.check_leftovers(of_streams, names)
    if not stream:
        notes.append(f"What is said of streams is left out; --stream chooses one of {', '.join(names)}.")
        return {}
    if stream not in names:
        raise ConfigError(f"--stream {stream}: there is no such stream; there are {', '.join(names) or 'none'}.")
    own = f"{stream_parameters.GROUP}.{stream}."
    return {name.removeprefix(own): value for name, value in of_streams.items() if name.startswith(own)}


def _value(parameter: Parameter, text: str) -> Value:
    """`text` in the parameter's type; as it is where that fails, for `checked` to refuse."""
    kind = type(parameter.default)
    if kind is str:
        return _unquoted(text)
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _unquoted(text: str) -> str:
    # As on ROS's own command line, where quotes say that 123 is a name.
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        try:
            return str(yaml.safe_load(text))
        except yaml.YAMLError:
            pass
    return text


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _KNOWN, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_KNOWN)}."
    return f"no parameter is called {name!r}; {hint}"


def _read(file: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(file.read_text())
    except OSError as err:
        raise ConfigError(f"Parameter file {str(file)!r} cannot be read: {err.strerror}.") from err
    except Exception as err:  # RecursionError, ValueError, AttributeError: PyYAML raises nearly anything
        words = brief(" ".join(str(err).split()), 500)
        raise ConfigError(f"Parameter file {str(file)!r} is not YAML: {type(err).__name__}: {words}.") from err
    try:
        return _ours(file, document)
    except RecursionError as err:
        raise ConfigError(f"Parameter file {str(file)!r} cannot be used: something in it holds itself.") from err


def _ours(file: Path, document: object) -> dict[str, Any]:
    """What the file says of the node, by full name."""
    sections = dict(_at_most(file, _sections(document))) if isinstance(document, dict) else {}
    matching = [content for name, content in sections.items() if name.rpartition("/")[2] in _SECTIONS]
    if not matching:
        found = f"only for {', '.join(sections)}" if sections else "no section with ros__parameters"
        raise ConfigError(
            f"Parameter file {str(file)!r} holds nothing for stream_vl: {found}. Begin it with the lines '/**:' and "
            "'  ros__parameters:', as config/stream_vl.yaml does."
        )
    return {name: value for content in matching for name, value in _at_most(file, _flat(content))}


def _at_most(file: Path, items: Iterator[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """The items. Raises `ConfigError` for more than any node has: aliases of aliases unfold without end."""
    for count, item in enumerate(items):
        if count == _MOST:
            raise ConfigError(f"Parameter file {str(file)!r} says more than {_MOST} things; take its aliases out.")
        yield item


def _sections(document: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Node names, with namespaces in front, and their parameters."""
    for key, content in document.items():
        if not isinstance(content, dict):
            continue
        name = f"{path}/{str(key).strip('/')}"
        parameters = content.get("ros__parameters", ...)
        if parameters is not ...:
            yield name, parameters if isinstance(parameters, dict) else {}
        yield from _sections({k: v for k, v in content.items() if k != "ros__parameters"}, name)


def _flat(parameters: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in parameters.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
