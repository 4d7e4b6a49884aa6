"""Why no image arrives, in one line that says what to try."""

from __future__ import annotations

import os

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def topic_type(message: type) -> str:
    """Name of a message class of sensor_msgs, as the graph has it."""
    return f"sensor_msgs/msg/{message.__name__}"


def silence_report(node: Node, topic: str, wanted: str, qos: QoSProfile, seconds: float) -> str:
    """What is known about a topic on which nothing arrives, and what may help.

    Args:
        topic: resolved topic name.
        wanted: type of message that is subscribed to.
        qos: of our subscription.
        seconds: for how long nothing has come.
    """
    start = f"no image on {topic} for {seconds:.0f} s: "
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        own = f"{node.get_fully_qualified_name()}/"  # such as ~/debug_image
        similar = [
            n
            for n, kinds in node.get_topic_names_and_types()
            if not {*IMAGE_TYPES}.isdisjoint(kinds)
            and n != topic
            and not n.startswith(own)
            and node.count_publishers(n)
        ]
        known = f"image topics here are {', '.join(sorted(similar))}" if similar else "there is no image topic at all"
        return (
            f"{start}nobody publishes it; {known}. Set image_topic, start the camera, or check ROS_DOMAIN_ID "
            f"(here {os.environ.get('ROS_DOMAIN_ID', '0')})"
        )
    kinds = {p.topic_type for p in publishers}
    if wanted not in kinds:
        other = "set image_transport to auto" if kinds & {*IMAGE_TYPES} else "choose another image_topic"
        return f"{start}it carries {', '.join(sorted(kinds))}, not {wanted}; {other}"
    theirs = ", ".join(f"{p.node_name} ({_reliability(p.qos_profile)})" for p in publishers)
    ours = _reliability(qos)
    if ours == "reliable" and any(_reliability(p.qos_profile) == "best_effort" for p in publishers):
        hint = "a reliable subscription gets nothing from a best_effort publisher: set qos_reliability to best_effort"
    else:
        transport = os.environ.get("FASTDDS_BUILTIN_TRANSPORTS", "DEFAULT")
        hint = (
            f"FASTDDS_BUILTIN_TRANSPORTS is {transport}: images larger than 512 KiB need LARGE_DATA on both sides, or "
            "qos_reliability reliable"
        )
    return f"{start}{len(publishers)} publisher(s): {theirs}; our subscription is {ours}; {hint}"


def _reliability(qos: QoSProfile) -> str:
    return "reliable" if qos.reliability == ReliabilityPolicy.RELIABLE else "best_effort"
