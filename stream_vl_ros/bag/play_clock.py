"""The recording's time on /clock, for nodes that run with `use_sim_time`."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from builtin_interfaces.msg import Time
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from stream_vl_ros.bag.cdr import NANOSECONDS

if TYPE_CHECKING:
    from rclpy.node import Node
    from typing_extensions import Self

    from stream_vl_ros.bag.schedule import Schedule

TOPIC = "/clock"
# Reliable suits subscribers of both kinds; only the latest time is of use.
_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


class PlayClock:
    """Publishes the recording's time `hz` times per real second, from a thread of its own. A context manager.

    Time stands at `origin` until `run`, so that nodes which wait for a clock before they subscribe do not wait forever.
    """

    def __init__(self, node: Node, hz: float, origin: int) -> None:
        """Create the publisher.

        Args:
            node: the replay's.
            hz: above 0.
            origin: log time of the beginning, nanoseconds.
        """
        self._publisher = node.create_publisher(Clock, TOPIC, _QOS)
        self._period = 1 / hz
        self._origin = origin
        self._schedule: Schedule | None = None
        self._back = 0  # nanoseconds by which the present round lies before the time of the schedule
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="clock", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, schedule: Schedule, *, back: int = 0) -> None:
        """Follow `schedule`, `back` nanoseconds behind it but never before `origin`, from now on. Ticks at once."""
        with self._lock:
            self._schedule, self._back = schedule, back
            self._publish()

    def stop(self) -> None:
        """No tick comes after this. A second call does nothing."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _loop(self) -> None:
        begin = time.monotonic()
        ticks = 0
        while not self._over.wait(max(0.0, begin + ticks * self._period - time.monotonic())):
            with self._lock:
                self._publish()
            # Counted from the beginning, so that the mean frequency is right; ticks that were missed are left out.
            ticks = max(ticks + 1, int((time.monotonic() - begin) / self._period))

    def _publish(self) -> None:
        """Under the lock, so that ticks are sent in the order of their times."""
        now = self._origin
        if self._schedule is not None:
            now = max(now, self._schedule.at(time.monotonic_ns()) - self._back)
        seconds, nanoseconds = divmod(now, NANOSECONDS)
        self._publisher.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))
