"""What rqt_robot_monitor and the diagnostic aggregator see: camera and engine on /diagnostics."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from stream_vl_ros.engine.units import MIB
from stream_vl_ros.msg import StreamStatus

try:
    import diagnostic_updater
except ImportError:  # it comes with a robot's ROS 2, not from PyPI
    diagnostic_updater = None

# Fields of the status that are told as they are.
_CAMERA = (
    "publishers",
    "frames_received",
    "frames_ingested",
    "frames_skipped",
    "frames_dropped",
    "frames_waiting",
    "time_jumps_back",
    "time_gaps",
)
_ENGINE = (
    "model",
    "device",
    "dtype",
    "cache_tokens",
    "evicted_frames",
    "chunks",
    "last_chunk_time",
    "mean_chunk_time",
    "questions_asked",
    "questions_active",
    "questions_answered",
    "questions_cancelled",
    "questions_refused",
    "questions_timed_out",
    "watches",
    "last_watch_time",
)


# Seconds for which a problem is a warning, after it was last seen.
_FRESH = 10.0


class Diagnosing:
    """Says what `~/status` says in the words of diagnostic_msgs.

    Through diagnostic_updater where that is installed, which has parameters of its own for the period and the names.
    """

    def __init__(self, node: Node, streams: Sequence[str]) -> None:
        """Offer the topic.

        Args:
            node: whose it is.
            streams: their names.
        """
        self._node = node
        self._updater = None if diagnostic_updater is None else diagnostic_updater.Updater(node)
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10) if self._updater is None else None
        self._latest: dict[str, DiagnosticStatus] = {}
        self._healths = {name: Health() for name in streams}
        if self._updater is not None:
            self._updater.setHardwareID("none")
            for name in streams:
                for part in ("camera", "engine"):
                    self._updater.add(_title(name, part), functools.partial(self._fill, _title(name, part)))

    def tell(self, status: StreamStatus, silence: str, problem: str) -> None:
        """Note how a stream stands.

        Args:
            status: as it is published on `~/status`.
            silence: why no image arrives; empty if they do, or need not yet.
            problem: the last thing that went wrong otherwise; empty if nothing did.
        """
        health = self._healths[status.stream]
        health.update(status, problem)
        self._latest[_title(status.stream, "camera")] = camera_status(status, silence)
        self._latest[_title(status.stream, "engine")] = engine_status(status, health)

    def publish(self) -> None:
        """Publish what was noted; diagnostic_updater does that at its own period."""
        if self._publisher is None:
            return
        node = self._node.get_fully_qualified_name().lstrip("/")
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        for title, status in self._latest.items():
            status.name = f"{node}: {title}"
            message.status.append(status)
        self._publisher.publish(message)

    def _fill(self, title: str, wrapper: Any) -> Any:
        """What diagnostic_updater asks for."""
        status = self._latest.get(title)
        if status is None:
            wrapper.summary(DiagnosticStatus.OK, "starting")
            return wrapper
        wrapper.summary(status.level, status.message)
        wrapper.hardware_id = status.hardware_id
        for value in status.values:
            wrapper.add(value.key, value.value)
        return wrapper


class Health:
    """Whether what went wrong last is still news."""

    def __init__(self) -> None:
        self._lost = (0, "")  # frames that were lost so far, and the last problem
        self._worse_at = -_FRESH

    def update(self, status: StreamStatus, problem: str) -> None:
        """Take note of a status and of the last problem, if there was one."""
        # Not questions: why one was refused is told to its caller, and is no problem of the engine's.
        lost = (status.frames_dropped, problem)
        if problem and lost != self._lost:
            self._worse_at = time.monotonic()
        self._lost = lost

    @property
    def problem(self) -> str:
        """The last problem; empty if there was none."""
        return self._lost[1]

    @property
    def fresh(self) -> bool:
        """Whether it was seen just now."""
        return bool(self.problem) and time.monotonic() - self._worse_at < _FRESH


def _title(stream: str, part: str) -> str:
    return f"{stream} {part}".strip()


def camera_status(status: StreamStatus, silence: str) -> DiagnosticStatus:
    """The camera's part, without a name."""
    if silence:
        level, words = DiagnosticStatus.ERROR, silence
    elif status.state != "active":
        level, words = DiagnosticStatus.OK, f"not watched: the node is {status.state}"
    elif not status.frames_received:
        level, words = DiagnosticStatus.OK, "no image yet"
    else:
        level, words = DiagnosticStatus.OK, "images arrive"
    values = _values(status, _CAMERA)
    drops = zip(status.drop_reasons, status.drop_counts, strict=True)
    values += [KeyValue(key=f"dropped: {reason}", value=str(count)) for reason, count in drops]
    return DiagnosticStatus(level=level, message=words, hardware_id=status.image_topic, values=values)


def engine_status(status: StreamStatus, health: Health) -> DiagnosticStatus:
    """The engine's part, without a name."""
    if status.state == "error":
        level, words = DiagnosticStatus.ERROR, health.problem
    elif health.fresh:
        level, words = DiagnosticStatus.WARN, health.problem
    elif status.state in ("active", "inactive"):
        level, words = DiagnosticStatus.OK, status.state
    else:
        level, words = DiagnosticStatus.WARN, status.state
    values = _values(status, _ENGINE)
    refusals = zip(status.refuse_reasons, status.refuse_counts, strict=True)
    values += [KeyValue(key=f"refused: {reason}", value=str(count)) for reason, count in refusals]
    values.append(KeyValue(key="cache_mib", value=f"{status.cache_bytes / MIB:.1f}"))
    return DiagnosticStatus(level=level, message=words, hardware_id=status.device, values=values)


def _values(status: StreamStatus, names: tuple[str, ...]) -> list[KeyValue]:
    values = []
    for name in names:
        value = getattr(status, name)
        values.append(KeyValue(key=name, value=f"{value:.4g}" if isinstance(value, float) else str(value)))
    return values
