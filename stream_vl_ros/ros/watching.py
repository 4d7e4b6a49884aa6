"""Standing questions in ROS: the service that adds and removes them, and the topic of their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rclpy.node import Node

from stream_vl_ros.engine.watch import DEFAULT_HYSTERESIS, DEFAULT_OPTIONS, DEFAULT_THRESHOLD, Watch, WatchEvent
from stream_vl_ros.engine.watches import MAX_WATCHES, Watches
from stream_vl_ros.errors import ConfigError, RequestError
from stream_vl_ros.msg import Event
from stream_vl_ros.ros.failures import why
from stream_vl_ros.ros.handover import Handover
from stream_vl_ros.ros.messages import to_time, wire
from stream_vl_ros.ros.qos import EVENT_QOS, SERVICE_QOS
from stream_vl_ros.ros.settings import PlacedWatch
from stream_vl_ros.ros.stream_parameters import ALL
from stream_vl_ros.ros.streams import selected
from stream_vl_ros.ros.watch_parameters import NAMES
from stream_vl_ros.srv import Watch as WatchSrv

if TYPE_CHECKING:
    from stream_vl_ros.ros.camera_stream import CameraStream

COMMANDS = ("add", "list", "remove", "clear")


class WatchDesk:
    """`~/watch` and `~/event`. It needs no model: watches wait for one."""

    def __init__(self, node: Node, broken: Callable[[], str]) -> None:
        """Open service and topic.

        Args:
            node: whose they are.
            broken: why there will be no model for now; empty while there may be one.
        """
        self._node, self._broken = node, broken
        self._streams: Mapping[str, CameraStream] = {}
        self._placed: dict[tuple[str, str], Watch] = {}  # by stream and name, those of the parameters
        self._events: Handover[tuple[str, WatchEvent]] = Handover(node, self._publish)
        self._publisher = node.create_publisher(Event, "~/event", EVENT_QOS)
        self._service = node.create_service(WatchSrv, "~/watch", self._on_watch, qos_profile=SERVICE_QOS)

    def event(self, stream: str, event: WatchEvent) -> None:
        """Let an event be published; from any thread."""
        self._events.put((stream, event))

    def serve(self, streams: Mapping[str, CameraStream]) -> None:
        """These are the streams, by name."""
        self._streams = streams

    def place(self, placed: Iterable[PlacedWatch]) -> None:
        """Let the watches of the parameters be these: others are removed, new ones added, changed ones replaced.

        Those that came through `~/watch` stay, unless one of the parameters has the name.
        """
        wanted = self._wanted(placed)
        for stream, name in self._placed:
            if (stream, name) not in wanted:
                self._streams[stream].watches.remove(name)
        for key, watch in wanted.items():
            if self._placed.get(key) != watch:
                self._streams[key[0]].watches.replace(watch)
        self._placed = wanted

    def check(self, placed: Iterable[PlacedWatch]) -> None:
        """Raise `ConfigError` if there would be too many."""
        wanted = self._wanted(placed)
        for name, stream in self._streams.items():
            there = {r.watch.name for r in stream.watches.reports()} - {n for s, n in self._placed if s == name}
            count = len(there | {n for s, n in wanted if s == name})
            if count > MAX_WATCHES:
                raise ConfigError(
                    f"parameter {NAMES}: there would be {count} watches, and no more than {MAX_WATCHES} can be; remove "
                    "some first"
                )

    def _wanted(self, placed: Iterable[PlacedWatch]) -> dict[tuple[str, str], Watch]:
        return {
            (stream, one.watch.name): one.watch
            for one in placed
            for stream in ([one.stream] if one.stream else self._streams)
        }

    def _publish(self, event: tuple[str, WatchEvent]) -> None:
        name, what = event
        self._publisher.publish(event_message(what, name, self._streams[name].frame_id))

    def _on_watch(self, request: WatchSrv.Request, response: WatchSrv.Response) -> WatchSrv.Response:
        streams = list(self._streams.values())
        try:
            streams = selected(self._streams, request.stream or ALL)
            self._perform(request, streams)
            response.success = True
        except Exception as error:
            response.error = why(self._node, "watch", error)
            self._node.get_logger().warning(f"watch {request.name[:80]!r}, {request.command[:80]!r}: {response.error}")
        return fill_list(response, {stream.name: stream.watches for stream in streams})

    def _perform(self, request: WatchSrv.Request, streams: Sequence[CameraStream]) -> None:
        command, everywhere = request.command, [stream.watches for stream in streams]
        if command == "add":
            if reason := self._broken():
                raise RequestError(f"not ready: the model could not be loaded: {reason}")
            watch = watch_from(request)
            for watches in everywhere:
                watches.check(watch)
            for watches in everywhere:
                watches.add(watch)
        elif command == "remove":
            removed = [watches.remove(request.name) for watches in everywhere]
            if not any(removed):
                known = sorted({repr(r.watch.name) for watches in everywhere for r in watches.reports()})
                raise ConfigError(
                    f"name={request.name!r}: there is no watch of that name; there are: {', '.join(known) or 'none'}"
                )
        elif command == "clear":
            for watches in everywhere:
                watches.clear()
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


def fill_list(response: WatchSrv.Response, streams: Mapping[str, Watches]) -> WatchSrv.Response:
    """The watches of streams as they stand."""
    placed = [(name, report) for name, watches in streams.items() for report in watches.reports()]
    response.streams, reports = [name for name, _ in placed], [report for _, report in placed]
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


def event_message(event: WatchEvent, stream: str, frame_id: str) -> Event:
    """What is published of an event."""
    watch = event.watch
    message = Event()
    message.header.stamp = message.last_stamp = to_time(event.moment.last_stamp_ns)
    message.header.frame_id = frame_id
    message.stream, message.name = stream, watch.name
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
    message.removed = event.removed
    return message
