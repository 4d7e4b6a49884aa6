"""The page's process, from its arguments to its exit code.

`ros2 run stream_vl_ros web`, or `python -m stream_vl_ros.web.main`; parameters as `--ros-args -p NAME:=VALUE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from stream_vl_ros.errors import ConfigError, StreamVLError
from stream_vl_ros.leaving import leave
from stream_vl_ros.ros.parameters import Value
from stream_vl_ros.web.options import PARAMETERS, web_options

NODE_NAME = "stream_vl_web"


def main(args: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C. Returns the exit code: 0, 1 if it cannot be served, 2 for wrong parameters."""
    try:
        import rclpy
        from rclpy.impl.implementation_singleton import rclpy_implementation
        from rclpy.signals import SignalHandlerOptions

        from stream_vl_ros.web.serving import listening, serve
    except ImportError as error:
        print(
            f"web: {error}. It needs ROS 2, this package built and sourced, and FastAPI with uvicorn: "
            "`pip install -r requirements-web.txt`.",
            file=sys.stderr,
        )
        return 1
    signal.signal(signal.SIGTERM, _as_interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logger = rclpy.logging.get_logger(NODE_NAME)
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = rclpy.create_node(NODE_NAME)
    except KeyboardInterrupt:
        rclpy.try_shutdown()
        return 0
    except (rclpy.exceptions.ParameterException, rclpy_implementation.RCLError) as error:
        logger.fatal(str(error))
        rclpy.try_shutdown()
        return 2
    try:
        options = web_options(declared(node), os.environ)
        with listening(options) as listener:
            asyncio.run(serve(options, node, listener))
    except (ConfigError, rclpy.exceptions.ParameterException) as error:
        logger.fatal(str(error))
        return 2
    except StreamVLError as error:
        logger.fatal(str(error))
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending already
        # Others would take it for alive until its lease is over.
        with contextlib.suppress(rclpy_implementation.RCLError):
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def run() -> None:
    """`main`, and the end of the process."""
    code = main()
    # A decoder or an upload that is under way must not hold the interpreter up.
    leave(code)


def declared(node: Any) -> dict[str, Value]:
    """The process's parameters as they were given."""
    from rcl_interfaces.msg import ParameterDescriptor

    values = {}
    for p in PARAMETERS:
        # Typed by `Parameter.check`, which takes a whole number for any number.
        descriptor = ParameterDescriptor(description=p.description, read_only=True, dynamic_typing=True)
        values[p.name] = node.declare_parameter(p.name, p.default, descriptor).value
    return values


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run()
