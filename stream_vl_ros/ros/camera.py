"""One image topic: subscribed with a QoS that its publishers can serve, as images or as compressed ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidTopicNameException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.watchdog import silence_report, topic_type

Transport = Literal["auto", "raw", "compressed"]
ImageMessage = Any  # Image or CompressedImage, whose classes carry no types

_RclError = rclpy_implementation.RCLError


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """How a topic is watched.

    Attributes:
        topic: its name, as the user gave it.
        transport: ``"raw"`` for Image, ``"compressed"`` for CompressedImage, ``"auto"`` for what its publishers send;
            as long as there are none, the end of its name tells.
        reliable: whether lost images are asked for again, if the publishers can.
        depth: images that the middleware keeps.
        timeout: seconds without an image after which `silence` speaks; 0 never does.
    """

    topic: str
    transport: Transport
    reliable: bool
    depth: int
    timeout: float


class Camera:
    """Watches a topic between `open` and `close`. Used on the executor's thread."""

    def __init__(self, node: Node, settings: CameraSettings, receive: Callable[[ImageMessage], None]) -> None:
        """Not subscribed yet.

        Args:
            node: whose subscription it is.
            settings: what to watch and how.
            receive: called with every message.

        Raises:
            ConfigError: for what is no name of a topic.
        """
        self._node = node
        self._settings = settings
        self._receive = receive
        self.topic = _resolved(node, settings.topic)
        self.frame_id = ""
        self._subscription: Subscription | None = None
        self._message: type = Image
        self._qos = _qos(settings)
        self._matched = False  # the QoS was changed to what publishers offer
        self._last = time.monotonic()
        self._told = 0.0  # seconds of silence when it was last logged

    @property
    def is_open(self) -> bool:
        return self._subscription is not None

    @property
    def publishers(self) -> int:
        """Publishers that the topic has now."""
        return int(self._node.count_publishers(self.topic))

    def use(self, settings: CameraSettings) -> None:
        """Watch in this way: of an open camera only the timeout changes, the rest when it is opened again.

        Raises `ConfigError` for what is no name of a topic; nothing changes then.
        """
        topic = _resolved(self._node, settings.topic)
        self._settings = settings
        if not self.is_open:
            self.topic = topic

    def check(self, settings: CameraSettings) -> None:
        """Raise what `use` would raise."""
        _resolved(self._node, settings.topic)

    def open(self) -> None:
        """Subscribe."""
        self._last, self._told = time.monotonic(), 0.0
        self._qos, self._matched = _qos(self._settings), False
        self._message = self._wanted()
        self._subscribe()

    def close(self) -> None:
        """Unsubscribe; images that wait in the middleware are lost."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def take_waiting(self) -> None:
        """Hand over the images that are here already: rclpy takes one of them, then the services, then the next."""
        if self._subscription is None:
            return
        for _ in range(self._settings.depth):
            taken = self._subscription.handle.take_message(self._message, False)
            if taken is None:
                return
            self._on_message(taken[0])

    def silence(self) -> str:
        """Why nothing arrives, if it has not for too long; otherwise nothing. Call it once a second.

        A topic whose publishers send the other kind of message is subscribed anew.
        """
        if self._subscription is None:
            return ""
        limit, silent = self._settings.timeout, time.monotonic() - self._last
        if silent > 1 and self._wanted() is not self._message:
            self.close()
            self._message = self._wanted()
            self._subscribe()
            self._node.get_logger().info(f"{self.topic} carries {topic_type(self._message)}: subscribed to that")
        if not limit or silent < limit:
            self._told = 0.0
            return ""
        text = silence_report(self._node, self.topic, topic_type(self._message), self._qos, silent)
        # Logged again only when it has lasted twice as long, so that a night without a camera is a few lines.
        if silent >= 2 * self._told:
            self._told = silent
            self._node.get_logger().warning(text)
        return text

    def _wanted(self) -> type:
        if self._settings.transport != "auto":
            return CompressedImage if self._settings.transport == "compressed" else Image
        kinds = {p.topic_type for p in self._node.get_publishers_info_by_topic(self.topic)}
        if topic_type(self._message) in kinds:
            return self._message
        for message in (Image, CompressedImage):
            if topic_type(message) in kinds:
                return message
        return CompressedImage if self.topic.endswith("/compressed") and not self.is_open else self._message

    def _subscribe(self) -> None:
        self._subscription = self._node.create_subscription(
            self._message,
            self.topic,
            self._on_message,
            self._qos,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible),
            # A QoS that was changed to what publishers offer must not be changed back.
            qos_overriding_options=None if self._matched else QoSOverridingOptions.with_default_policies(),
        )

    def _on_message(self, message: ImageMessage) -> None:
        self._last = time.monotonic()
        self.frame_id = message.header.frame_id
        self._receive(message)

    def _on_incompatible(self, event: Any) -> None:
        """A publisher cannot serve our QoS: ask for less."""
        if self._matched:
            return
        self._matched = True
        self._qos = QoSProfile(
            depth=self._settings.depth,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        policy = getattr(event.last_policy_kind, "name", event.last_policy_kind)
        self._node.get_logger().warning(
            f"a publisher of {self.topic} does not offer the QoS that was asked for ({policy}): subscribed as "
            "best_effort and volatile, which every publisher serves; with qos_reliability best_effort it would be so "
            "from the start"
        )
        self.close()
        self._subscribe()


def _qos(settings: CameraSettings) -> QoSProfile:
    reliability = ReliabilityPolicy.RELIABLE if settings.reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=settings.depth, reliability=reliability)


def _resolved(node: Node, topic: str) -> str:
    try:
        return str(node.resolve_topic_name(topic))
    except (_RclError, InvalidTopicNameException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"parameter image_topic={topic!r}: not the name of a topic ({reason}); e.g. /camera/image_raw"
        ) from error
