"""A plain subscriber in a process of its own: prints one JSON line per message until it is told to stop.

Usage: subscriber.py reliable|best_effort DELAY TOPIC[=TYPE] ...; TYPE is Image (default), CompressedImage or Clock.
Prints {"ready": true} first; ends when stdin closes. DELAY is slept in every callback, seconds.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

TYPES = {"Image": Image, "CompressedImage": CompressedImage, "Clock": Clock}


def main() -> None:
    reliability, delay, *wanted = sys.argv[1:]
    rclpy.init(args=[])
    node = rclpy.create_node("watcher")
    qos = QoSProfile(depth=200, reliability=ReliabilityPolicy[reliability.upper()])

    def take(topic: str, message: Image | CompressedImage | Clock) -> None:
        arrived = time.monotonic_ns()
        line: dict[str, object] = {"topic": topic, "arrived": arrived}
        if isinstance(message, Clock):
            line["time"] = message.clock.sec * 10**9 + message.clock.nanosec
        else:
            line["stamp"] = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            line["digest"] = hashlib.sha256(message.data).hexdigest()
            line["encoding"] = message.encoding if isinstance(message, Image) else message.format
        print(json.dumps(line), flush=True)
        time.sleep(float(delay))

    for text in wanted:
        topic, _, kind = text.partition("=")
        node.create_subscription(TYPES[kind or "Image"], topic, lambda m, topic=topic: take(topic, m), qos)
    print(json.dumps({"ready": True}), flush=True)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.is_set():
        rclpy.spin_once(node, timeout_sec=0.05)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
