"""All parameters of the node as they stand, checked together; a change makes a new one or is refused.

Plain data: importing it needs no ROS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stream_vl_ros.brief import shown
from stream_vl_ros.engine.watch import Watch
from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros import stream_parameters, watch_parameters
from stream_vl_ros.ros.parameters import PARAMETERS, Value, checked

_PARAMETERS = {p.name: p for p in PARAMETERS}
_OF_A_STREAM = {p.name for p in stream_parameters.OF_A_STREAM}
_OF_A_WATCH = {p.name for p in watch_parameters.WATCH_PARAMETERS}


@dataclass(frozen=True, slots=True)
class PlacedWatch:
    """A standing question, and the stream that it is about; empty is all of them."""

    watch: Watch
    stream: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What the parameters say.

    Attributes:
        given: every parameter by its full name, as ROS has it; None is not set.
        node: the parameters of the node, checked.
        streams: for each stream all parameters as they hold for it. A node without `streams` has one, of an empty name.
        watches: standing questions.
    """

    given: Mapping[str, object]
    node: Mapping[str, Value] = field(init=False)
    streams: Mapping[str, Mapping[str, Value]] = field(init=False)
    watches: tuple[PlacedWatch, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Check everything. Raises `ConfigError` with the parameter, its value and the reason."""
        given = self.given
        names = stream_parameters.check_names(given.get(stream_parameters.NAMES))
        stream_parameters.check_leftovers(given, names)
        node = checked({n: v for n, v in given.items() if n in _PARAMETERS})  # type: ignore[misc]
        streams = {name: stream_parameters.values_of(name, given, node) for name in names} or {"": node}
        object.__setattr__(self, "node", node)
        object.__setattr__(self, "streams", streams)
        object.__setattr__(self, "watches", tuple(self._placed(names)))

    def _placed(self, streams: list[str]) -> Iterator[PlacedWatch]:
        for name in watch_parameters.check_names(self.given.get(watch_parameters.NAMES)):
            full = f"{watch_parameters.GROUP}.{name}.stream"
            stream = self.given.get(full)
            if stream in (None, "", stream_parameters.ALL):
                stream = ""
            elif stream not in streams:
                known = ", ".join(streams) or "none, this node has one stream only"
                raise ConfigError(
                    f"parameter {full}={shown(stream)}: there is no such stream; there are {known}; leave it out "
                    "for all"
                )
            yield PlacedWatch(watch_parameters.watch_of(name, self.given), str(stream))

    def changed(self, changes: Mapping[str, object], *, configured: bool) -> Settings:
        """With some parameters changed; None takes back what was set.

        Args:
            changes: by full name.
            configured: whether the model is loaded: some can only be changed while it is not.

        Raises:
            ConfigError: if that cannot work, or cannot be changed now. Nothing changes then.
        """
        # A whole file may be loaded anew of which little is new.
        new = {name: value for name, value in changes.items() if value != self.given.get(name)}
        for name, value in new.items():
            _check_change(name, value, configured)
        return Settings({**self.given, **new}) if new else self


def is_ours(name: str) -> bool:
    """Whether a parameter of this full name is one of those above."""
    first = name.split(".")[0]
    lists = (stream_parameters.NAMES, watch_parameters.NAMES)
    return name in _PARAMETERS or name in lists or first in (stream_parameters.GROUP, watch_parameters.GROUP)


def _check_change(name: str, value: object, configured: bool) -> None:
    group, _, rest = name.partition(".")
    field_name = rest.rpartition(".")[2] if rest else name
    if group in (stream_parameters.GROUP, watch_parameters.GROUP) and not rest.rpartition(".")[0]:
        raise ConfigError(f"parameter {name}: there is no such parameter; write {group}.NAME.PARAMETER")
    if group == watch_parameters.GROUP and rest:
        if field_name not in _OF_A_WATCH:
            raise ConfigError(
                f"parameter {name}: a watch has no such parameter; there are {', '.join(sorted(_OF_A_WATCH))}"
            )
        return
    if name == watch_parameters.NAMES:
        return
    if not rest and value is None:
        raise ConfigError(f"parameter {name}: it cannot be taken away; set it to its default instead")
    if group == stream_parameters.GROUP and field_name not in _OF_A_STREAM:
        return  # refused with what is known instead, as at the start
    when = "never" if name == stream_parameters.NAMES else _PARAMETERS[field_name].changes
    if when == "never":
        raise ConfigError(
            f"parameter {name}={shown(value)}: it is read when the node starts; start the node anew with it"
        )
    if when == "unconfigured" and configured:
        raise ConfigError(
            f"parameter {name}={shown(value)}: it is read when the node is configured; take it through deactivate and "
            "cleanup first, and configure it again afterwards (~/change_state)"
        )
