"""What rqt_robot_monitor and the diagnostic aggregator see: camera and engine on /diagnostics."""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from stream_vl_ros.engine.units import MIB
from stream_vl_ros.msg import StreamStatus

# Fields of the status that are told as they are.
_CAMERA = ("publishers", "frames_received", "frames_ingested", "frames_skipped", "frames_dropped", "frames_waiting")
_ENGINE = (
    "model",
    "device",
    "dtype",
    "cache_tokens",
    "evicted_frames",
    "chunks",
    "last_chunk_time",
    "mean_chunk_time",
    "questions_active",
    "questions_answered",
    "questions_failed",
    "watches",
    "last_watch_time",
)


# Seconds for which a problem is a warning, after it was last seen.
_FRESH = 10.0


class Diagnosing:
    """Publishes what `~/status` says in the words of diagnostic_msgs."""

    def __init__(self, node: Node) -> None:
        self._name = node.get_fully_qualified_name().lstrip("/")
        self._lost = (0, 0, "")  # frames and questions that were lost so far, and the last problem
        self._worse_at = -_FRESH
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, status: StreamStatus, silence: str, problem: str) -> None:
        """Tell of a status.

        Args:
            status: as it is published on `~/status`.
            silence: why no image arrives; empty if they do, or need not yet.
            problem: the last thing that went wrong otherwise; empty if nothing did.
        """
        lost = (status.frames_dropped, status.questions_failed, problem)
        if problem and lost != self._lost:
            self._worse_at = time.monotonic()
        self._lost = lost
        message = DiagnosticArray(status=[self._camera(status, silence), self._engine(status)])
        message.header.stamp = status.header.stamp
        self._publisher.publish(message)

    def _camera(self, status: StreamStatus, silence: str) -> DiagnosticStatus:
        if silence:
            level, words = DiagnosticStatus.ERROR, silence
        elif not status.frames_received:
            level, words = DiagnosticStatus.OK, "no image yet"
        else:
            level, words = DiagnosticStatus.OK, "images arrive"
        values = _values(status, _CAMERA)
        drops = zip(status.drop_reasons, status.drop_counts, strict=True)
        values += [KeyValue(key=f"dropped: {reason}", value=str(count)) for reason, count in drops]
        return DiagnosticStatus(
            level=level, name=f"{self._name}: camera", message=words, hardware_id=status.image_topic, values=values
        )

    def _engine(self, status: StreamStatus) -> DiagnosticStatus:
        if status.state == "error":
            level, words = DiagnosticStatus.ERROR, self._lost[2]
        elif status.state != "ready":
            level, words = DiagnosticStatus.WARN, status.state
        elif self._lost[2] and time.monotonic() - self._worse_at < _FRESH:
            level, words = DiagnosticStatus.WARN, self._lost[2]
        else:
            level, words = DiagnosticStatus.OK, status.state
        values = _values(status, _ENGINE)
        values.append(KeyValue(key="cache_mib", value=f"{status.cache_bytes / MIB:.1f}"))
        return DiagnosticStatus(
            level=level, name=f"{self._name}: engine", message=words, hardware_id=status.device, values=values
        )


def _values(status: StreamStatus, names: tuple[str, ...]) -> list[KeyValue]:
    values = []
    for name in names:
        value = getattr(status, name)
        values.append(KeyValue(key=name, value=f"{value:.4g}" if isinstance(value, float) else str(value)))
    return values
