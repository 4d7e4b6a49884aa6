"""What a caller is told of a request that failed: whatever happens, it gets a response."""

from __future__ import annotations

import traceback

from rclpy.node import Node

from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.ros.messages import reason


def why(node: Node, request: str, error: Exception) -> str:
    """The reason for the response. An error that nobody foresaw is logged with where it came from."""
    if isinstance(error, StreamVLError):
        return reason(error)
    trace = "".join(traceback.format_exception(error))
    node.get_logger().error(f"{request}:\n{trace}")
    return reason(StreamVLError(f"the node failed: {type(error).__name__}: {error}; its log says where"))
