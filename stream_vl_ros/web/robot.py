"""The ROS side of the page: a client of the node. Nothing here knows of the web."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import rclpy
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient

from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.msg import Answer, Event, StreamStatus
from stream_vl_ros.ros.camera import Camera, CameraSettings
from stream_vl_ros.ros.qos import EVENT_QOS, SERVICE_QOS, STATUS_QOS
from stream_vl_ros.srv import Watch
from stream_vl_ros.web.asking import Asking
from stream_vl_ros.web.plain import plain, plain_watches

_STATUS_TYPE = "stream_vl_ros/msg/StreamStatus"
_LIMITS = ("eviction", "budget_tokens", "budget_mib", "budget_seconds")
_LIMITS_PERIOD = 10.0
# Seconds after which a request is given up: its response may have been lost.
_PATIENCE = 8.0

_RclError = rclpy_implementation.RCLError


class Told(Protocol):
    """Who is told what the node says; called on the thread that `deliver` chooses."""

    def streams(self, topics: Mapping[str, str]) -> None: ...
    def status(self, name: str, status: Mapping[str, Any]) -> None: ...
    def limits(self, name: str, limits: Mapping[str, Any]) -> None: ...
    def watches(self, values: Mapping[str, Any]) -> None: ...
    def event(self, event: Mapping[str, Any]) -> None: ...
    def answer(self, answer: Mapping[str, Any]) -> None: ...
    def accepted(self, number: int) -> None: ...
    def written(self, number: int, text: str) -> None: ...
    def result(self, number: int, result: Mapping[str, Any], *, canceled: bool) -> None: ...
    def failed(self, number: int, reason: str) -> None: ...


class Robot:
    """Subscribes to what the node tells, and asks it.

    It has a thread of its own, on which everything of ROS happens. `ask`, `stop`, `watch` and `publishers_of` may be
    called from any thread and return at once.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        deliver: Callable[[Callable[[], None]], None],
        received: Callable[[str, Any, int], None],
    ) -> None:
        """Not spinning yet.

        Args:
            node: of this process.
            name: full name of the node to be a client of.
            deliver: calls a function without arguments on the thread where who is told lives.
            received: called on the ROS thread with the stream, the image and its header stamp; must be quick.
        """
        self._node, self._name, self._deliver, self._received = node, name, deliver, received
        self._told: Told | None = None
        self._cameras: dict[str, Camera] = {}
        self._statuses: dict[str, Any] = {}
        self._jobs: deque[Callable[[], None]] = deque()
        self._waiting: list[tuple[float, Client, Any, Callable[[str], None]]] = []
        self._listing = False
        self._limits_at = -_LIMITS_PERIOD
        self._watching = False
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="ros", daemon=True)

    def start(self, told: Told) -> None:
        """Begin."""
        self._told = told
        node, name = self._node, self._name
        self._asking = Asking(node, name, self._tell)
        self._watch = node.create_client(Watch, f"{name}/watch", qos_profile=SERVICE_QOS)
        self._parameters = AsyncParameterClient(node, name)
        node.create_subscription(Answer, f"{name}/answer", lambda m: self._tell("answer", plain(m)), EVENT_QOS)
        node.create_subscription(Event, f"{name}/event", lambda m: self._tell("event", plain(m)), EVENT_QOS)
        self._bell = node.create_guard_condition(self._work)
        node.create_timer(1.0, self._look)
        self._executor.create_task(self._look)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=0.5)
        self._thread.join(1.0)
        with contextlib.suppress(_RclError):
            self._node.destroy_node()

    @property
    def own_name(self) -> str:
        """Full name of this process's node."""
        return str(self._node.get_fully_qualified_name())

    # --- from any thread ------------------------------------------------------------------------------------

    def ask(self, number: int, fields: Mapping[str, Any]) -> None:
        """Ask; what comes of it is told under `number`."""
        self._post(lambda: self._asking.send(number, fields))

    def stop(self, number: int) -> None:
        """End an answer at its next token."""
        self._post(lambda: self._asking.stop(number))

    def watch(self, fields: Mapping[str, Any], done: Callable[[str], None]) -> None:
        """Send a request to `~/watch`; `done` is delivered with the reason if it was refused, or with nothing."""
        self._post(lambda: self._call_watch(fields, done))

    def publishers_of(self, topic: str) -> list[str]:
        """Names of the nodes that publish a topic."""
        with contextlib.suppress(_RclError):
            infos = self._node.get_publishers_info_by_topic(topic)
            return sorted({f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos})
        return []

    # --- on the ROS thread ----------------------------------------------------------------------------------

    def _spin(self) -> None:
        while self._node.context.ok():
            try:
                self._executor.spin()
                return
            except (ExternalShutdownException, rclpy.executors.ShutdownException):
                return
            except Exception as error:
                # Such as a server that died in the middle; the page must not die with it.
                if self._node.context.ok():
                    self._node.get_logger().warning(f"something went wrong: {type(error).__name__}: {error}")
                    time.sleep(0.1)  # one that comes again and again must not fill the log

    def _post(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        self._bell.trigger()

    def _work(self) -> None:
        while self._jobs:
            self._jobs.popleft()()

    def _tell(self, what: str, *arguments: Any, **more: Any) -> None:
        assert self._told is not None
        function = getattr(self._told, what)
        self._deliver(lambda: function(*arguments, **more))

    def _look(self) -> None:
        """Once a second: which streams there are, what the cameras send, how the watches stand."""
        self._find_streams()
        self._asking.look()
        for camera in self._cameras.values():
            camera.silence()  # follows publishers that send another kind of message
        self._give_up()
        if self._watching and not self._listing and self._watch.service_is_ready():
            self._list_watches()
        if time.monotonic() - self._limits_at > _LIMITS_PERIOD and self._parameters.services_are_ready():
            self._limits_at = time.monotonic()
            for name in self._cameras:
                self._ask_limits(name)

    def _find_streams(self) -> None:
        begin = f"{self._name}/"
        names = set()
        for topic, kinds in self._node.get_topic_names_and_types():
            if topic.startswith(begin) and topic.endswith("/status") and _STATUS_TYPE in kinds:
                middle = topic[len(begin) : -len("status")].strip("/")
                # Our own subscription keeps the topic of a node that is gone in the graph.
                if "/" not in middle and (topic not in self._statuses or self._node.count_publishers(topic)):
                    names.add(middle)
        for name in names:
            topic = f"{begin}{name}/status".replace("//", "/")
            if topic not in self._statuses:
                self._statuses[topic] = self._node.create_subscription(
                    StreamStatus, topic, lambda m, name=name: self._on_status(name, m), STATUS_QOS
                )
        # While the node is away the page goes on showing its cameras.
        if names:
            for name in [name for name in self._cameras if name not in names]:
                self._cameras.pop(name).close()
                self._tell_streams()

    def _tell_streams(self) -> None:
        self._tell("streams", {name: camera.topic for name, camera in self._cameras.items()})

    def _on_status(self, name: str, message: StreamStatus) -> None:
        if message.stream != name:
            return  # of another node, whose name begins with this one's
        topic = message.image_topic
        camera = self._cameras.get(name)
        if topic and (camera is None or camera.topic != topic):
            if camera is not None:
                camera.close()
            settings = CameraSettings(topic, "auto", reliable=False, depth=2, timeout=0.0)
            try:
                camera = Camera(self._node, settings, lambda image: self._on_image(name, image))
                camera.open()
            except StreamVLError as error:
                self._node.get_logger().warning(f"{topic} cannot be shown: {error}")
            else:
                self._cameras[name] = camera
                self._limits_at = -_LIMITS_PERIOD
            self._tell_streams()
        self._watching = message.state != "finalized"
        self._tell("status", name, plain(message))

    def _on_image(self, name: str, image: Any) -> None:
        stamp = image.header.stamp
        self._received(name, image, int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec))

    # --- standing questions and parameters

    def _call_watch(self, fields: Mapping[str, Any], done: Callable[[str], None]) -> None:
        if not self._watch.service_is_ready():
            self._deliver(lambda: done("The node takes no standing questions now; try again in a moment."))
            return

        def on_done(future: Any) -> None:
            response = future.result()
            reason = "" if response.success else response.error
            if response.success:
                self._tell("watches", plain_watches(response))
            self._deliver(lambda: done(reason))

        self._call(self._watch, Watch.Request(**fields), on_done, lambda reason: self._deliver(lambda: done(reason)))

    def _list_watches(self) -> None:
        self._listing = True

        def on_done(future: Any) -> None:
            self._listing = False
            if future.result().success:
                self._tell("watches", plain_watches(future.result()))

        def on_lost(reason: str) -> None:
            self._listing = False

        self._call(self._watch, Watch.Request(command="list"), on_done, on_lost)

    def _call(self, client: Client, request: Any, done: Callable[[Any], None], lost: Callable[[str], None]) -> None:
        future = client.call_async(request)
        entry = (time.monotonic(), client, future, lost)
        self._waiting.append(entry)

        def finished(future: Any) -> None:
            if entry in self._waiting:
                self._waiting.remove(entry)
                if future.exception() is None and future.result() is not None:
                    done(future)
                else:
                    lost(f"The node could not be asked: {future.exception()}")

        future.add_done_callback(finished)

    def _give_up(self) -> None:
        for entry in list(self._waiting):
            since, client, future, lost = entry
            if time.monotonic() - since > _PATIENCE:
                self._waiting.remove(entry)
                client.remove_pending_request(future)
                lost(
                    f"The node did not answer within {_PATIENCE:.0f} s; look whether it was done before you try again."
                )

    def _ask_limits(self, stream: str) -> None:
        """A stream's own parameters say what holds; where it has none, those of the node do."""
        names = [*_LIMITS, *(f"stream.{stream}.{name}" for name in _LIMITS if stream)]

        def done(future: Any) -> None:
            if future.exception() is not None or future.result() is None:
                return
            values = dict(zip(names, map(parameter_value_to_python, future.result().values), strict=False))
            own = {name: values.get(f"stream.{stream}.{name}") for name in _LIMITS}
            self._tell("limits", stream, {n: values.get(n) if own[n] is None else own[n] for n in _LIMITS})

        self._parameters.get_parameters(names).add_done_callback(done)
