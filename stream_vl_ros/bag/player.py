"""Publish the images of a bag over DDS, with their recorded timing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stream_vl_ros.bag.cdr import NANOSECONDS, with_stamp
from stream_vl_ros.bag.outlet import Outlet
from stream_vl_ros.bag.play_clock import PlayClock
from stream_vl_ros.bag.play_events import Listener, Result, Sent, Started
from stream_vl_ros.bag.play_options import PlayOptions
from stream_vl_ros.bag.reader import Message, Topic
from stream_vl_ros.bag.recording import Recording
from stream_vl_ros.bag.rounds import Span, rounds
from stream_vl_ros.bag.schedule import Lateness, Schedule
from stream_vl_ros.errors import BagError

if TYPE_CHECKING:
    from rclpy.node import Node

# How long one uninterruptible wait inside the middleware may take before a stop is looked at.
_SLICE = 0.2
# A best-effort publisher hears of a subscriber before that one is ready to listen.
_SETTLE = 0.5
# When time jumps back it does so before the first image from there: topics have no common order. Nanoseconds.
_JUMP = 20_000_000


class Player:
    """Replays topics of a bag through a node of the caller. Needs ROS."""

    def __init__(
        self, node: Node, bag: Recording, topics: Sequence[Topic], options: PlayOptions, listener: Listener
    ) -> None:
        """Create the publishers.

        Raises:
            BagError: the recording has no image where it is to be replayed, or a topic's name cannot be used.
        """
        self._bag, self._topics, self._options, self._listener = bag, tuple(topics), options, listener
        self._stop = threading.Event()
        self._first, self._span = _span(bag, self._topics, options)
        self._outlets = {
            topic.name: Outlet(
                node, topic, options.to.get(topic.name, topic.name), reliable=options.reliable, depth=options.depth
            )
            for topic in self._topics
        }
        self._clock = PlayClock(node, options.clock, self._span.start) if options.clock else None

    def stop(self) -> None:
        """End the replay soon. Safe from signal handlers and other threads."""
        self._stop.set()

    def run(self) -> Result:
        """Replay to the end, or until `stop`, and wait until everything was delivered.

        Raises:
            BagError: the bag is damaged, or the wanted subscribers did not come.
        """
        lateness = Lateness()
        with self._clock or contextlib.nullcontext():
            self._wait_for_subscribers()
            self._listener.started(self._started())
            self._play(lateness)
        acknowledged = self._confirm(tuple(self._outlets.values()))
        sent = {outlet.name: outlet.sent for outlet in self._outlets.values()}
        result = Result(sent, acknowledged, self._stop.is_set(), lateness)
        self._listener.finished(result)
        return result

    def _play(self, lateness: Lateness) -> None:
        options = self._options
        repeat = options.loop_stamps == "repeat"
        schedule = Schedule(self._span.start, time.monotonic_ns(), options.rate)
        if self._clock is not None:
            self._clock.run(schedule)
        present = 0
        for message, shift in rounds(self._bag, self._topics, self._span, loop=options.loop):
            due = schedule.due(message.log_time + shift)
            if shift != present and repeat and self._clock is not None:
                if self._stopped_until(due - _JUMP):
                    return
                self._clock.run(schedule, back=shift)
            present = shift
            if self._stopped_until(due):
                return
            outlet = self._outlets[message.topic.name]
            if options.reliable and outlet.unconfirmed >= options.depth:
                # A full history would silently overwrite what a slow subscriber did not get yet.
                self._confirm((outlet,))
                outlet.unconfirmed = 0
            self._send(outlet, message, 0 if repeat else shift, due, lateness)

    def _stopped_until(self, due: int) -> bool:
        """Wait for a moment of the monotonic clock; true, and at once, if it is to end."""
        return self._stop.wait(max(0.0, (due - time.monotonic_ns()) / NANOSECONDS))

    def _send(self, outlet: Outlet, message: Message, shift: int, due: int, lateness: Lateness) -> None:
        stamp = time.time_ns() if self._options.stamps == "now" else message.stamp + shift
        data = message.data if stamp == message.stamp else with_stamp(message.data, stamp)
        late = (time.monotonic_ns() - due) / NANOSECONDS
        outlet.publish(data)
        lateness.add(late)
        position = (message.log_time - self._first) / NANOSECONDS
        self._listener.sent(Sent(lateness.count, outlet.name, stamp, position, late))

    def _started(self) -> Started:
        end = (self._bag.start + self._bag.duration - self._first) / NANOSECONDS
        if self._span.stop is not None:
            end = min(end, (self._span.stop - self._first) / NANOSECONDS)
        topics = {self._outlets[topic.name].name: topic.count for topic in self._topics}
        return Started(topics, (self._span.start - self._first) / NANOSECONDS, end)

    def _wait_for_subscribers(self) -> None:
        wanted = self._options.subscribers
        if not wanted:
            return
        deadline = time.monotonic() + self._options.subscriber_timeout
        for outlet in self._outlets.values():
            while (found := outlet.subscribers) < wanted:
                self._listener.waiting(outlet.name, found, wanted)
                if time.monotonic() > deadline:
                    raise BagError(self._missing(outlet.name, found))
                if self._stop.wait(0.05):
                    return
        if not self._options.reliable:
            self._stop.wait(_SETTLE)

    def _missing(self, name: str, found: int) -> str:
        options = self._options
        hint = "" if options.reliable else " A subscriber that asks for reliable delivery needs --reliable here."
        return (
            f"{found} of {options.subscribers} subscribers found on {name} after {options.subscriber_timeout:g} s. "
            f"Check that they run, listen to this topic, and share ROS_DOMAIN_ID and the network.{hint}"
        )

    def _confirm(self, outlets: Sequence[Outlet]) -> bool:
        """Wait until all was acknowledged; false after the timeout, or at once if the user does not want to wait."""
        if not self._options.reliable:
            return True
        patience = _SLICE if self._stop.is_set() else self._options.ack_timeout
        deadline = time.monotonic() + patience
        for outlet in outlets:
            while not outlet.confirm(_SLICE):
                if time.monotonic() > deadline:
                    return False
        return True


def _span(bag: Recording, topics: Sequence[Topic], options: PlayOptions) -> tuple[int, Span]:
    """Log time of the first image, and what is to be replayed."""
    names = ", ".join(topic.name for topic in topics)
    first = next(bag.messages(*topics), None)
    if first is None:
        raise BagError(f"Bag {str(bag.path)!r} holds no image on {names}.")
    start = first.log_time + round(options.start * NANOSECONDS)
    stop = None if options.duration is None else start + round(options.duration * NANOSECONDS)
    if next(bag.messages(*topics, start=start), None) is None:
        seconds = (bag.start + bag.duration - first.log_time) / NANOSECONDS
        raise BagError(
            f"start is {options.start} s, but {names} of bag {str(bag.path)!r} ends after at most {seconds:.2f} s."
        )
    if next(bag.messages(*topics, start=start, stop=stop), None) is None:
        raise BagError(
            f"{names} of bag {str(bag.path)!r} holds no image from {options.start:g} s to "
            f"{options.start + (options.duration or 0):g} s. Give a longer --duration."
        )
    return first.log_time, Span(start, stop)
