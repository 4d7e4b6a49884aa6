"""One topic that recorded messages are published on, byte by byte as they were recorded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from stream_vl_ros.errors import BagError

if TYPE_CHECKING:
    from rclpy.node import Node

    from stream_vl_ros.bag.reader import Topic


class Outlet:
    """A publisher that knows how much of what it sent may still be under way.

    Attributes:
        name: the topic, resolved.
        sent: messages published.
        unconfirmed: messages published since they were last known to have arrived.
    """

    def __init__(self, node: Node, topic: Topic, name: str, *, reliable: bool, depth: int) -> None:
        """Create the publisher.

        Raises:
            BagError: `name` is no topic name.
        """
        package, _, kind = topic.msgtype.split("/")
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=depth,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        message_type = getattr(import_module(f"{package}.msg"), kind)
        try:
            self._publisher = node.create_publisher(message_type, name, qos)
        except Exception as err:
            # rclpy has an exception type of its own for each way in which a name can be wrong.
            reason = str(err).splitlines()[0].rstrip(":")
            raise BagError(f"Cannot publish on {name!r}: {reason}. Name a topic with --to.") from err
        self.name: str = self._publisher.topic_name
        self.sent = 0
        self.unconfirmed = 0

    @property
    def subscribers(self) -> int:
        """How many listen now."""
        return int(self._publisher.get_subscription_count())

    def publish(self, data: bytes) -> None:
        """Send a serialized message."""
        self._publisher.publish(data)
        self.sent += 1
        self.unconfirmed += 1

    def confirm(self, seconds: float) -> bool:
        """Wait until every reliable subscriber has all that was sent; false if they have not within `seconds`."""
        done = bool(self._publisher.wait_for_all_acked(Duration(seconds=seconds)))
        if done:
            self.unconfirmed = 0
        return done
