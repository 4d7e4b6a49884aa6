"""A plain subscriber in a process of its own: prints one JSON line per image until it is told to stop.

Usage: subscriber.py TOPIC reliable|best_effort [DELAY]. Prints {"ready": true} first; ends when stdin closes. DELAY is
slept in every callback, seconds.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image


def main() -> None:
    topic, reliability = sys.argv[1:3]
    delay = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    rclpy.init(args=[])
    node = rclpy.create_node("watcher")
    qos = QoSProfile(depth=200, reliability=ReliabilityPolicy[reliability.upper()])

    def take(image: Image) -> None:
        arrived = time.monotonic_ns()
        stamp = image.header.stamp.sec * 10**9 + image.header.stamp.nanosec
        digest = hashlib.sha256(image.data).hexdigest()
        print(
            json.dumps({"arrived": arrived, "stamp": stamp, "digest": digest, "encoding": image.encoding}), flush=True
        )
        time.sleep(delay)

    node.create_subscription(Image, topic, take, qos)
    print(json.dumps({"ready": True}), flush=True)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    while not over.is_set():
        rclpy.spin_once(node, timeout_sec=0.05)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
