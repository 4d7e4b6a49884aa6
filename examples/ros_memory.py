#!/usr/bin/env python3
"""Keep what the node has seen under a name or on disk, go back to it, let go of it; and see how the memory stands.

python examples/ros_memory.py keep kitchen
python examples/ros_memory.py back kitchen --stream front
python examples/ros_memory.py save kitchen    # on disk, for another day
python examples/ros_memory.py load kitchen
python examples/ros_memory.py status
"""

import argparse
import sys

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from stream_vl_ros.msg import StreamStatus
from stream_vl_ros.srv import Memory

SERVICES = {
    "keep": "snapshot",
    "back": "restore",
    "drop": "discard",
    "save": "save_memory",
    "load": "load_memory",
}
PATIENCE = 60.0  # a large memory takes its time on a slow disk


def change(node: Node, service: str, request: Memory.Request) -> int:
    client = node.create_client(Memory, service)
    if not client.wait_for_service(PATIENCE):
        sys.exit(
            f"ros_memory: {service} is not there: is the node running, with the same "
            "ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE?"
        )
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=PATIENCE)
    if not future.done():
        sys.exit(f"ros_memory: no answer in {PATIENCE:.0f} s: did the node end?")
    response = future.result()
    for stream, name, tokens in zip(response.streams, response.names, response.tokens, strict=True):
        print(f"{stream + ': ' if stream else ''}{name}, {tokens} tokens")
    print(response.error or "done")
    return 0 if response.success else 1


def status(node: Node, topic: str) -> int:
    # The latest status is kept for whoever comes later.
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    heard = rclpy.task.Future()
    node.create_subscription(StreamStatus, topic, heard.set_result, latched)
    rclpy.spin_until_future_complete(node, heard, timeout_sec=PATIENCE)
    if not heard.done():
        sys.exit(
            f"ros_memory: nothing on {topic}: is the node running, with the same "
            "ROS_DOMAIN_ID and ROS_AUTOMATIC_DISCOVERY_RANGE?"
        )
    now = heard.result()
    print(f"{now.state}: {now.frames_ingested} frames seen, {now.evicted_frames} forgotten")
    print(f"{now.cache_tokens} tokens, {now.cache_bytes / 2**20:.0f} MiB, {now.message or 'all is well'}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*SERVICES, "status"])
    parser.add_argument("name", nargs="?", default="", help="of the memory")
    parser.add_argument("--stream", default="", help="which camera, if the node watches several")
    parser.add_argument("--node", default="/stream_vl", help="name of the node")
    args = parser.parse_args()

    rclpy.init(args=[])
    node = rclpy.create_node("ros_memory")
    try:
        if args.command == "status":
            return status(node, "/".join(filter(None, (args.node, args.stream, "status"))))
        request = Memory.Request(stream=args.stream, name=args.name)
        return change(node, f"{args.node}/{SERVICES[args.command]}", request)
    except KeyboardInterrupt:
        sys.exit("stopped")
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
