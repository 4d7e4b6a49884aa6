"""Publish the images of a bag over DDS, with their recorded timing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal, Protocol

from stream_vl_ros.bag.cdr import with_stamp
from stream_vl_ros.bag.reader import BagReader, Message, Topic
from stream_vl_ros.bag.schedule import Lateness, Schedule
from stream_vl_ros.errors import BagError, ConfigError

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.publisher import Publisher

Stamps = Literal["recorded", "now"]
# How long one uninterruptible wait inside the middleware may take before a stop is looked at.
_SLICE = 0.2
# A best-effort publisher hears of a subscriber before that one is ready to listen.
_SETTLE = 0.5


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """How to replay.

    Attributes:
        to: topic to publish on; None: the recorded one.
        rate: recorded seconds per real second.
        start: seconds of the recording to leave out, counted from the topic's first image.
        loop: begin again at the end, until stopped. Header stamps go on growing.
        reliable: DDS reliability; otherwise best effort.
        depth: how many images DDS keeps for subscribers that are behind.
        subscribers: how many must be there before the first image is sent.
        subscriber_timeout: seconds to wait for them.
        ack_timeout: seconds to wait for a reliable subscriber that confirms nothing.
        stamps: "recorded" leaves header stamps alone; "now" replaces them by the time of sending.
    """

    to: str | None = None
    rate: float = 1.0
    start: float = 0.0
    loop: bool = False
    reliable: bool = True
    depth: int = 100
    subscribers: int = 0
    subscriber_timeout: float = 30.0
    ack_timeout: float = 10.0
    stamps: Stamps = "recorded"

    def __post_init__(self) -> None:
        checks = (
            ("rate", self.rate > 0, "above 0"),
            ("start", self.start >= 0, "0 or more seconds"),
            ("depth", self.depth >= 1, "1 or more"),
            ("subscribers", self.subscribers >= 0, "0 or more"),
            ("subscriber_timeout", self.subscriber_timeout > 0, "above 0 seconds"),
            ("ack_timeout", self.ack_timeout > 0, "above 0 seconds"),
            ("stamps", self.stamps in {"recorded", "now"}, "'recorded' or 'now'"),
        )
        for name, good, rule in checks:
            if not good:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {rule}.")


@dataclass(frozen=True, slots=True)
class Sent:
    """One published image: its number from 1, header stamp (ns), seconds into the topic, seconds it was late."""

    number: int
    stamp: int
    position: float
    late: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a replay did.

    Attributes:
        published: images sent.
        acknowledged: every matched reliable subscriber confirmed all of them; always true for best effort.
        stopped: it was ended early on request.
        lateness: how well the timing was kept.
    """

    published: int
    acknowledged: bool
    stopped: bool
    lateness: Lateness


class Listener(Protocol):
    """Is told what a replay does; called on the replaying thread, so it must be quick."""

    def waiting(self, topic: str, found: int, wanted: int) -> None: ...
    def started(self, topic: str, images: int, seconds: float) -> None: ...
    def sent(self, image: Sent) -> None: ...
    def finished(self, result: Result) -> None: ...


class Player:
    """Replays one topic of a bag through a node of the caller."""

    def __init__(self, node: Node, bag: BagReader, topic: Topic, options: PlayOptions, listener: Listener) -> None:
        """Create the publisher.

        Raises:
            BagError: the recording has no image at or after `options.start`.
        """
        self._bag, self._topic, self._options, self._listener = bag, topic, options, listener
        self._stop = threading.Event()
        first = next(bag.messages(topic), None)
        if first is None:
            raise BagError(f"Bag {str(bag.path)!r} holds no image on {topic.name}.")
        self._first = first
        self._from = first.log_time + round(options.start * 1e9)
        if next(bag.messages(topic, start=self._from), None) is None:
            seconds = (bag.start + bag.duration - first.log_time) / 1e9
            raise BagError(
                f"start is {options.start} s, but {topic.name} of bag {str(bag.path)!r} ends after at most "
                f"{seconds:.2f} s."
            )
        self._publisher = _publisher(node, topic, options)

    def stop(self) -> None:
        """End the replay soon. Safe from signal handlers and other threads."""
        self._stop.set()

    def run(self) -> Result:
        """Replay to the end, or until `stop`, and wait until everything was delivered.

        Raises:
            BagError: the bag is damaged, or the wanted subscribers did not come.
        """
        options = self._options
        self._wait_for_subscribers()
        end = self._bag.start + self._bag.duration
        self._listener.started(self._publisher.topic_name, self._topic.count, (end - self._first.log_time) / 1e9)
        schedule = Schedule(self._from, time.monotonic_ns(), options.rate)
        lateness = Lateness()
        published = unconfirmed = 0
        for message, shift in self._messages():
            due = schedule.due(message.log_time + shift)
            if self._stop.wait(max(0.0, (due - time.monotonic_ns()) / 1e9)):
                break
            if options.reliable and unconfirmed >= options.depth:
                # A full history would silently overwrite what a slow subscriber did not get yet.
                self._confirm()
                unconfirmed = 0
            stamp = time.time_ns() if options.stamps == "now" else message.stamp + shift
            data = message.data if stamp == message.stamp else with_stamp(message.data, stamp)
            late = (time.monotonic_ns() - due) / 1e9
            self._publisher.publish(data)
            lateness.add(late)
            published += 1
            unconfirmed += 1
            self._listener.sent(Sent(published, stamp, (message.log_time - self._first.log_time) / 1e9, late))
        result = Result(published, self._confirm(), self._stop.is_set(), lateness)
        self._listener.finished(result)
        return result

    def _messages(self) -> Iterator[tuple[Message, int]]:
        """Messages with the nanoseconds by which their round of the loop moves them."""
        shift = 0
        while True:
            last, count = self._from, 0
            for message in self._bag.messages(self._topic, start=self._from):
                yield message, shift
                last, count = message.log_time, count + 1
            if not self._options.loop:
                return
            # One mean frame distance between the rounds, so that time neither stands still nor runs backwards.
            shift += (last - self._from) + max(1, (last - self._from) // max(1, count - 1))

    def _wait_for_subscribers(self) -> None:
        wanted = self._options.subscribers
        if not wanted:
            return
        deadline = time.monotonic() + self._options.subscriber_timeout
        name = self._publisher.topic_name
        while (found := self._publisher.get_subscription_count()) < wanted:
            self._listener.waiting(name, found, wanted)
            if time.monotonic() > deadline:
                hint = (
                    ""
                    if self._options.reliable
                    else " A subscriber that asks for reliable delivery needs --reliable here."
                )
                raise BagError(
                    f"{found} of {wanted} subscribers found on {name} after {self._options.subscriber_timeout:g} s. "
                    f"Check that they run, listen to this topic, and share ROS_DOMAIN_ID and the network.{hint}"
                )
            if self._stop.wait(0.05):
                return
        if not self._options.reliable:
            self._stop.wait(_SETTLE)

    def _confirm(self) -> bool:
        """Wait until all was acknowledged; false after the timeout, or at once if the user does not want to wait."""
        from rclpy.duration import Duration

        if not self._options.reliable:
            return True
        patience = _SLICE if self._stop.is_set() else self._options.ack_timeout
        deadline = time.monotonic() + patience
        while not self._publisher.wait_for_all_acked(Duration(seconds=_SLICE)):
            if time.monotonic() > deadline:
                return False
        return True


def _publisher(node: Node, topic: Topic, options: PlayOptions) -> Publisher:
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

    package, _, name = topic.msgtype.split("/")
    qos = QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=options.depth,
        reliability=ReliabilityPolicy.RELIABLE if options.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.VOLATILE,
    )
    return node.create_publisher(getattr(import_module(f"{package}.msg"), name), options.to or topic.name, qos)
