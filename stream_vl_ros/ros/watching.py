"""Standing questions in ROS: the service that adds and removes them, the topic of their events, and parameters."""

from __future__ import annotations

from collections.abc import Callable

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from stream_vl_ros.engine.watch import DEFAULT_HYSTERESIS, DEFAULT_OPTIONS, DEFAULT_THRESHOLD, Watch, WatchEvent
from stream_vl_ros.engine.watches import Watches
from stream_vl_ros.errors import ConfigError, RequestError, StreamVLError
from stream_vl_ros.msg import Event
from stream_vl_ros.ros.handover import Handover
from stream_vl_ros.ros.messages import to_time, wire
from stream_vl_ros.ros.watch_parameters import (
    NAMES,
    NAMES_DESCRIPTION,
    WATCH_PARAMETERS,
    check_leftovers,
    check_names,
    parameter_names,
    watch_of,
)
from stream_vl_ros.srv import Watch as WatchSrv

COMMANDS = ("add", "list", "remove", "clear")
EVENT_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class WatchDesk:
    """`~/watch`, `~/event` and the watches of the parameters. It needs no model: watches wait for one.

    Attributes:
        watches: what the engine is to ask.
    """

    def __init__(self, node: Node, frame_id: Callable[[], str], broken: Callable[[], str]) -> None:
        """Declare the parameters, and open service and topic.

        Args:
            node: whose they are.
            frame_id: of the newest image.
            broken: why there will never be a model; empty while there may be one.

        Raises:
            ConfigError: for a watch among the parameters that cannot work.
        """
        self._node, self._frame_id, self._broken = node, frame_id, broken
        self._events: Handover[WatchEvent] = Handover(node, self._publish)
        self.watches = Watches(_declared(node), on_event=self._events.put)
        self._publisher = node.create_publisher(Event, "~/event", EVENT_QOS)
        self._service = node.create_service(WatchSrv, "~/watch", self._on_watch)

    def _publish(self, event: WatchEvent) -> None:
        self._publisher.publish(event_message(event, self._frame_id()))

    def _on_watch(self, request: WatchSrv.Request, response: WatchSrv.Response) -> WatchSrv.Response:
        try:
            self._perform(request)
            response.success = True
        except StreamVLError as error:
            response.error = wire(str(error))
            self._node.get_logger().warning(f"watch {request.name[:80]!r}, {request.command[:80]!r}: {error}")
        return fill_list(response, self.watches)

    def _perform(self, request: WatchSrv.Request) -> None:
        command = request.command
        if command == "add":
            if reason := self._broken():
                raise RequestError(f"not ready: the model could not be loaded: {reason}")
            self.watches.add(watch_from(request))
        elif command == "remove":
            if not self.watches.remove(request.name):
                names = ", ".join(repr(r.watch.name) for r in self.watches.reports())
                raise ConfigError(
                    f"name={request.name!r}: there is no watch of that name; there are: {names or 'none'}"
                )
        elif command == "clear":
            self.watches.clear()
        elif command != "list":
            raise ConfigError(f"command={command!r}: must be one of {', '.join(COMMANDS)}")


def watch_from(request: WatchSrv.Request) -> Watch:
    """The watch of an 'add'. Raises `ConfigError` or `PromptError` if it cannot work."""
    return Watch(
        request.name,
        request.question,
        tuple(request.options) or DEFAULT_OPTIONS,
        request.fires_on,
        DEFAULT_THRESHOLD if request.threshold <= 0 else request.threshold,
        DEFAULT_HYSTERESIS if request.hysteresis < 0 else request.hysteresis,
        0.0 if request.min_interval < 0 else request.min_interval,
    )


def fill_list(response: WatchSrv.Response, watches: Watches) -> WatchSrv.Response:
    """The watches as they stand."""
    reports = watches.reports()
    response.names = [r.watch.name for r in reports]
    response.questions = [wire(r.watch.question) for r in reports]
    response.fires_on = [wire(r.watch.fires_on) for r in reports]
    response.firing = [r.firing for r in reports]
    response.probabilities = [r.probability if r.scores else -1.0 for r in reports]
    response.thresholds = [float(r.watch.threshold) for r in reports]
    response.hysteresis = [float(r.watch.hysteresis) for r in reports]
    response.min_intervals = [float(r.watch.min_interval) for r in reports]
    response.stamps = [to_time(r.stamp_ns) for r in reports]
    response.events = [r.events for r in reports]
    response.errors = [wire(r.error) for r in reports]
    return response


def event_message(event: WatchEvent, frame_id: str) -> Event:
    """What is published of an event."""
    watch = event.watch
    message = Event()
    message.header.stamp = message.last_stamp = to_time(event.moment.last_stamp_ns)
    message.header.frame_id = frame_id
    message.name = watch.name
    message.question = wire(watch.question)
    message.fired = event.fired
    message.fires_on = wire(watch.fires_on)
    message.probability = event.probability
    message.threshold = float(watch.threshold)
    message.hysteresis = float(watch.hysteresis)
    message.option = wire(event.option)
    message.options = [wire(o) for o in watch.options]
    message.scores = list(event.scores)
    message.first_stamp = to_time(event.moment.first_stamp_ns)
    message.frames_seen = event.moment.frames
    message.previous_stamp = to_time(event.previous_stamp_ns)
    message.time = event.seconds
    return message


def _declared(node: Node) -> list[Watch]:
    """The watches that the parameters name."""
    descriptor = ParameterDescriptor(description=NAMES_DESCRIPTION, read_only=True, dynamic_typing=True)
    names = check_names(node.declare_parameter(NAMES, [], descriptor).value)
    # rclpy tells nobody which parameters were given but not declared.
    check_leftovers(getattr(node, "_parameter_overrides", {}), names)
    watches = []
    for name in names:
        values = {}
        for full, parameter in zip(parameter_names(name), WATCH_PARAMETERS, strict=True):
            about = ParameterDescriptor(description=parameter.description, read_only=True, dynamic_typing=True)
            values[full] = node.declare_parameter(full, None, about).value
        watches.append(watch_of(name, values))
    return watches
