"""Cameras of a robot, and a listener to the node's status: `python -m stream_vl_ros.bench.load_cameras FPS STREAM...`.

Prints `{"event": "status", "stream", ...}` for every status of a stream. Publishes from when the node watches until
stdin says something, and prints `{"event": "published", "counts"}`; goes on listening until stdin closes.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.msg import StreamStatus

NODE = "/stream_vl"
RELIABLE = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def emit(event: str, **values: object) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def plain(status: StreamStatus) -> dict[str, Any]:
    """Its numbers and words, and the counts by reason."""
    fields = status.get_fields_and_field_types()
    values = {name: getattr(status, name) for name in fields if isinstance(getattr(status, name), (str, int, float))}
    values["drops"] = dict(zip(status.drop_reasons, map(int, status.drop_counts), strict=True))
    values["refusals"] = dict(zip(status.refuse_reasons, map(int, status.refuse_counts), strict=True))
    return values


class Cameras:
    """One publisher for each stream; they show the demo's scene over and over."""

    def __init__(self, node: Node, streams: list[str], fps: float) -> None:
        self._node = node
        self._clip, _ = demo_clip()
        self._publishers = [node.create_publisher(Image, f"/{name}/image_raw", RELIABLE) for name in streams]
        self.counts = [0] * len(streams)
        self.stop = threading.Event()
        self._timer = node.create_timer(1 / fps, self._publish)

    def _publish(self) -> None:
        if self.stop.is_set():
            self._timer.cancel()
            emit("published", counts=self.counts)
            return
        if not all(p.get_subscription_count() for p in self._publishers):
            return
        now = self._node.get_clock().now().to_msg()
        for i, publisher in enumerate(self._publishers):
            picture = self._clip[(self.counts[i] + 20 * i) % len(self._clip)]
            message = Image(height=picture.shape[0], width=picture.shape[1], encoding="rgb8")
            message.header.stamp = Time(sec=now.sec, nanosec=now.nanosec)
            message.step, message.data = picture.shape[1] * 3, picture.tobytes()
            publisher.publish(message)
            self.counts[i] += 1


def main() -> None:
    fps, *streams = sys.argv[1:]
    rclpy.init(args=[])
    node = rclpy.create_node("load_cameras")
    for name in streams:
        node.create_subscription(
            StreamStatus, f"{NODE}/{name}/status", lambda message: emit("status", **plain(message)), LATCHED
        )
    cameras = Cameras(node, streams, float(fps))

    def listen() -> None:
        sys.stdin.readline()
        cameras.stop.set()
        sys.stdin.read()
        rclpy.try_shutdown()

    threading.Thread(target=listen, name="stdin", daemon=True).start()
    rclpy.spin(node)


if __name__ == "__main__":
    main()
