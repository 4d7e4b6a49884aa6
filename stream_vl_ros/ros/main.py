"""The node's process, from its arguments to its exit code."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation

from stream_vl_ros.errors import ConfigError
from stream_vl_ros.leaving import leave
from stream_vl_ros.ros.node import NODE_NAME, StreamVLNode

_RclError = rclpy_implementation.RCLError

# Seconds after an error: one that comes again and again must not fill the log.
_REST = 0.1


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C. Returns the exit code: 0, or 2 for parameters that cannot work."""
    began = False
    try:
        rclpy.init(args=args)
        began = True
        node = StreamVLNode()
    except KeyboardInterrupt:
        rclpy.try_shutdown()
        return 0
    except (ConfigError, rclpy.exceptions.ParameterException, _RclError) as error:
        if began and not rclpy.ok():  # SIGTERM, after which the middleware refuses whatever comes next
            return 0
        rclpy.logging.get_logger(NODE_NAME).fatal(str(error))
        rclpy.try_shutdown()
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        _spin(executor, node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is ending already
        node.close()
        # Others would take a node that is merely gone for alive until its lease is over, and wait for it.
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def run() -> None:
    """`main`, and the end of the process."""
    code = main()
    # A thread that is deep in PyTorch can neither be stopped nor outlive the interpreter, and without one the
    # interpreter still takes a second to take PyTorch down.
    leave(code)


def _spin(executor: SingleThreadedExecutor, node: StreamVLNode) -> None:
    told: set[tuple[type, str]] = set()
    while rclpy.ok():
        try:
            executor.spin()
        except _RclError as error:
            # A caller that died cannot be answered; that must not take the node down.
            if rclpy.ok():
                node.get_logger().warning(
                    f"the middleware refused something, such as a reply to a caller that died: {error}"
                )
                time.sleep(_REST)
        except ExternalShutdownException:
            raise
        except Exception as error:
            # One status, image or request is lost; the memory of hours, and everybody else, would be with the node.
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind = (type(error), f"{where.filename}:{where.lineno}")
            words = f"{type(error).__name__}: {error}" if kind in told else traceback.format_exc()
            told.add(kind)
            node.get_logger().error(f"a callback failed, and the node goes on without what it was about: {words}")
            time.sleep(_REST)


if __name__ == "__main__":
    run()
