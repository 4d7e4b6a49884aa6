"""The node's parameters in ROS: declared, and changed while it runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from stream_vl_ros.brief import brief
from stream_vl_ros.errors import ConfigError, StreamVLError
from stream_vl_ros.ros import stream_parameters, watch_parameters
from stream_vl_ros.ros.parameter_services import answer_all
from stream_vl_ros.ros.parameters import PARAMETERS, Parameter
from stream_vl_ros.ros.settings import Settings, is_ours

# What rclpy and diagnostic_updater declare when they need it.
_OF_LIBRARIES = ("qos_overrides.", "diagnostic_updater.")


class ParameterDesk:
    """Every parameter of the node. A change is checked with all others, and taken as a whole or refused.

    The node must allow undeclared parameters: those of a watch are set before its name is.

    Attributes:
        settings: what the parameters say now.
    """

    def __init__(self, node: Node) -> None:
        """Declare them. Raises `ConfigError` for a value that cannot work."""
        self._node = node
        given = _declared(node)
        try:
            names = watch_parameters.check_names(given[watch_parameters.NAMES])
            watch_parameters.check_leftovers(_overrides(node), names)
        except watch_parameters.NotNamedError as error:  # as it may be while the node runs
            node.get_logger().warning(f"{error}; it is not asked")
        for name in sorted(_overrides(node)):
            if not (node.has_parameter(name) or is_ours(name) or name.startswith(_OF_LIBRARIES)):
                hint = _hint(name, given)
                node.get_logger().warning(f"parameter {name} is ignored: there is none of that name; {hint}")
        self.settings = Settings(given)
        self._next = self.settings

    def serve(
        self,
        *,
        configured: Callable[[], bool],
        check: Callable[[Settings], None],
        changed: Callable[[Settings, Settings], None],
    ) -> None:
        """Allow changes from now on.

        Args:
            configured: whether the model is loaded.
            check: raises `StreamVLError` for settings that cannot work now.
            changed: called with what they were and what they are.
        """
        self._configured, self._check, self._changed = configured, check, changed
        answer_all(self._node)
        self._node.add_on_set_parameters_callback(self._on_set)
        self._node.add_post_set_parameters_callback(self._on_done)

    def _on_set(self, parameters: Sequence[RosParameter]) -> SetParametersResult:
        try:
            changes = self._ours(parameters)
            if changes:
                self._next = self.settings.changed(changes, configured=self._configured())
                self._check(self._next)
        except Exception as error:  # none may leave the executor, which would end the node
            self._next = self.settings
            reason = brief(str(error) if isinstance(error, StreamVLError) else f"{type(error).__name__}: {error}")
            self._node.get_logger().warning(f"refused: {reason}")
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _ours(self, parameters: Sequence[RosParameter]) -> dict[str, object]:
        ours = {}
        for parameter in parameters:
            name = parameter.name
            if is_ours(name):
                ours[name] = None if parameter.type_ == RosParameter.Type.NOT_SET else parameter.value
            elif not self._node.has_parameter(name) and not name.startswith(_OF_LIBRARIES):
                raise ConfigError(f"parameter {name}: there is no such parameter; {_hint(name, self.settings.given)}")
        return ours

    def _on_done(self, parameters: Sequence[RosParameter]) -> None:
        before, self.settings = self.settings, self._next
        if self.settings is before:
            return
        try:
            self._changed(before, self.settings)
        except Exception as error:  # as above
            self._node.get_logger().error(f"new parameters were not taken in full: {type(error).__name__}: {error}")


def _hint(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]}?" if near else "`ros2 param list` shows those that there are"


def differences(before: Settings, after: Settings) -> str:
    """What changed, in words."""
    names = [*before.given, *(name for name in after.given if name not in before.given)]
    return ", ".join(
        f"{name} {before.given.get(name)!r} -> {after.given.get(name)!r}"
        for name in names
        if before.given.get(name) != after.given.get(name)
    )


def _declared(node: Node) -> dict[str, object]:
    given: dict[str, object] = {
        p.name: node.declare_parameter(p.name, p.default, _descriptor(p)).value for p in PARAMETERS
    }
    for group in (stream_parameters, watch_parameters):
        about = _about(group.NAMES_DESCRIPTION, read_only=group is stream_parameters)
        given[group.NAMES] = node.declare_parameter(group.NAMES, [], about).value
    overrides = _overrides(node)
    for name in stream_parameters.check_names(given[stream_parameters.NAMES]):
        about = zip(stream_parameters.parameter_names(name), stream_parameters.OF_A_STREAM, strict=True)
        given |= _declared_if_given(node, overrides, {full: p.description for full, p in about})
    for name in watch_parameters.check_names(given[watch_parameters.NAMES]):
        questions = zip(watch_parameters.parameter_names(name), watch_parameters.WATCH_PARAMETERS, strict=True)
        given |= _declared_if_given(node, overrides, {full: p.description for full, p in questions})
    # rclpy tells nobody which parameters were given but not declared.
    stream_parameters.check_leftovers(_overrides(node), stream_parameters.check_names(given[stream_parameters.NAMES]))
    return given


def _declared_if_given(node: Node, overrides: Mapping[str, object], about: Mapping[str, str]) -> dict[str, object]:
    """Those that were given. One without a value would be 'None', a text, in a file that `ros2 param dump` writes."""
    return {
        full: node.declare_parameter(full, None, _about(description)).value
        for full, description in about.items()
        if full in overrides
    }


def _overrides(node: Node) -> Mapping[str, object]:
    return getattr(node, "_parameter_overrides", {})


def _about(description: str, *, read_only: bool = False) -> ParameterDescriptor:
    # Types are checked by `Settings`: rclpy would refuse a whole number where a number is asked for.
    return ParameterDescriptor(description=description, read_only=read_only, dynamic_typing=True)


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    descriptor = _about(parameter.description, read_only=parameter.changes == "never")
    constraints = [f"one of {', '.join(parameter.allowed)}"] if parameter.allowed else []
    if parameter.changes == "unconfigured":
        constraints.append("can be changed while the node is unconfigured")
    descriptor.additional_constraints = "; ".join(constraints)
    if parameter.low is not None and parameter.high is not None:
        # Checked again by `Settings`, whose message says more than rclpy's.
        if RosParameter("", value=parameter.default).type_ == RosParameter.Type.INTEGER:
            low, high = int(parameter.low), int(parameter.high)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=parameter.low, to_value=parameter.high)]
    return descriptor
