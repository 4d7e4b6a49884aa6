"""The asking process: a ROS node that knows nothing of the demo but its stdin and stdout.

Reads one JSON object a line, `{"id", "question", "choices", "timeout", "max_new_tokens"}`, asks it on `/stream_vl/ask`,
and prints `{"event": "answer", "id", ...}` when the answer came; several may be under way. Prints
`{"event": "status", ...}` for every `/stream_vl/status`. Ends when stdin closes.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from stream_vl_ros.msg import StreamStatus
from stream_vl_ros.srv import Ask

NODE = "/stream_vl"
_print_lock = threading.Lock()


def _emit(event: str, **values: object) -> None:
    with _print_lock:
        print(json.dumps({"event": event, **values}), flush=True)


def _plain(message: Any) -> dict[str, Any]:
    """A message as plain values; times as nanoseconds, without the header."""
    out: dict[str, Any] = {}
    for name in message.get_fields_and_field_types():
        value = getattr(message, name)
        if hasattr(value, "nanosec"):
            out[name] = value.sec * 1_000_000_000 + value.nanosec
        elif isinstance(value, (str, bool, int, float)):
            out[name] = value
        elif name != "header":
            out[name] = list(value)
    return out


def main() -> int:
    """Run until stdin closes."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("stream_vl_asker")
    client = node.create_client(Ask, f"{NODE}/ask")

    def on_status(message: StreamStatus) -> None:
        _emit("status", service=client.service_is_ready(), **_plain(message))

    def on_answer(number: int, future: Future) -> None:
        error = future.exception()
        if error is None:
            _emit("answer", id=number, **_plain(future.result()))
        else:
            _emit("answer", id=number, success=False, error=f"the call failed: {error}")

    # Status is kept for late comers where the node offers it; asking for that would miss a node that does not.
    node.create_subscription(
        StreamStatus, f"{NODE}/status", on_status, QoSProfile(depth=10, durability=DurabilityPolicy.VOLATILE)
    )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = threading.Thread(target=_spin, args=(executor,), name="spin", daemon=True)
    spinner.start()
    try:
        for line in sys.stdin:
            wanted = json.loads(line)
            request = Ask.Request()
            request.question = wanted["question"]
            request.choices = wanted["choices"]
            request.timeout = float(wanted["timeout"])
            request.max_new_tokens = int(wanted["max_new_tokens"])
            number = int(wanted["id"])
            client.call_async(request).add_done_callback(lambda future, number=number: on_answer(number, future))
    except KeyboardInterrupt:
        pass
    rclpy.try_shutdown()
    spinner.join(timeout=2)
    return 0


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


if __name__ == "__main__":
    sys.exit(main())
