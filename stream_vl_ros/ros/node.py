"""The node: an image topic in, questions answered, status out."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import DurabilityPolicy, QoSProfile

from stream_vl_ros.errors import ConfigError, EngineClosedError, StreamVLError
from stream_vl_ros.msg import StreamStatus
from stream_vl_ros.ros.asking import Asking
from stream_vl_ros.ros.camera import Camera, CameraSettings, ImageMessage
from stream_vl_ros.ros.debug_image import DebugImage
from stream_vl_ros.ros.diagnosing import Diagnosing
from stream_vl_ros.ros.logs import RosLogHandler
from stream_vl_ros.ros.parameters import PARAMETERS, Parameter, Value, checked, image_options
from stream_vl_ros.ros.remembering import Remembering
from stream_vl_ros.ros.watching import WatchDesk

if TYPE_CHECKING:
    from stream_vl_ros.ros.session import Session

NODE_NAME = "stream_vl"
STATUS_PERIOD = 1.0
# Shutting down must not wait for a model that is still loading or for a long chunk.
CLOSE_TIMEOUT = 1.5

_RclError = rclpy_implementation.RCLError


class StreamVLNode(Node):
    """Watches a topic, remembers it, answers on `~/ask`.

    Nothing here touches the model: images and questions go to the engine's thread, and answers come back as futures.
    """

    def __init__(self) -> None:
        super().__init__(NODE_NAME)
        self._bridge = RosLogHandler(self.get_logger())
        _route_logs(self._bridge)
        self._values = self._declare()
        self._state, self._message = "loading", ""
        self._started = time.monotonic()
        self._session: Session | None = None
        self._signature: Future[str] | None = None
        self._signature_text = ""
        self._camera = Camera(self, camera_settings(self._values), self._on_image)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._status_pub = self.create_publisher(StreamStatus, "~/status", latched)
        self._diagnosing = Diagnosing(self)
        self._debug_image = DebugImage(self, image_options(self._values))
        self._asking = Asking(
            self,
            session=self._require_session,
            before=self._camera.take_waiting,
            frame_id=lambda: self._camera.frame_id,
            told=self._debug_image.answer,
        )
        self._remembering = Remembering(self, session=self._require_session, before=self._camera.take_waiting)
        self._watching = WatchDesk(
            self, lambda: self._camera.frame_id, lambda: self._message if self._state == "error" else ""
        )
        # Not the node's clock: with use_sim_time that one stands still just when no image comes.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._status_timer = self.create_timer(STATUS_PERIOD, self._publish_status, clock=steady)
        self._ready = self.create_guard_condition(self._on_loaded)
        threading.Thread(target=self._load, name="stream_vl_load", daemon=True).start()

    # --- start and end --------------------------------------------------------------------------------------

    def _declare(self) -> dict[str, Value]:
        values = {p.name: self.declare_parameter(p.name, p.default, _descriptor(p)).value for p in PARAMETERS}
        return checked(values)

    def _load(self) -> None:
        self.get_logger().info(f"loading model {self._values['model']!r}")
        try:
            # Importing torch and transformers takes seconds, in which the node can already be seen and stopped.
            from stream_vl_ros.ros.session import Session

            self._session = Session.open(self._values, self._watching.watches)
        except StreamVLError as error:
            self._state, self._message = "error", str(error)
            self.get_logger().error(str(error))
        except Exception as error:
            self._state, self._message = "error", f"{type(error).__name__}: {error}"
            logging.getLogger(__name__).exception("the model could not be loaded")
        with contextlib.suppress(_RclError, ReferenceError):  # shut down meanwhile
            self._ready.trigger()

    def _on_loaded(self) -> None:
        if self._session is None:
            self._publish_status()
            return
        if not self._session.model.answers_mean_something:
            self.get_logger().warning("this is the seeded random checkpoint: its answers mean nothing")
        self._camera.open()
        self._state = "ready"
        seconds = time.monotonic() - self._started
        self.get_logger().info(
            f"ready after {seconds:.1f} s, watching {self._camera.topic} ({self._values['qos_reliability']})"
        )
        self._publish_status()

    def close(self) -> None:
        """Stop the engine; waiting questions get an error."""
        self._asking.close()
        self._debug_image.close()
        if self._session is not None:
            self._session.close(CLOSE_TIMEOUT)
        self._bridge.close()
        logging.getLogger("stream_vl_ros").removeHandler(self._bridge)

    # --- callbacks ------------------------------------------------------------------------------------------

    def _on_image(self, message: ImageMessage) -> None:
        assert self._session is not None
        with contextlib.suppress(EngineClosedError):
            self._session.push(message)
        self._debug_image.image(message)

    def _publish_status(self) -> None:
        message = StreamStatus() if self._session is None else self._session.status()
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self._camera.frame_id
        message.state = self._state
        message.image_topic = self._camera.topic
        message.publishers = self._camera.publishers
        if self._session is None:
            message.model = str(self._values["model"])
            message.watches = len(self._watching.watches)
        else:
            message.cache_signature = self._latest_signature(self._session)
        silence, problem = self._camera.silence(), self._message or message.message
        message.message = self._message or silence or problem
        self._status_pub.publish(message)
        self._diagnosing.publish(message, silence, problem)

    # --- inside ---------------------------------------------------------------------------------------------

    def _latest_signature(self, session: Session) -> str:
        if not self._values["publish_signature"]:
            return ""
        if self._signature is not None and self._signature.done():
            if self._signature.exception() is None:
                self._signature_text = self._signature.result()
            self._signature = None
        if self._signature is None:
            with contextlib.suppress(EngineClosedError):
                self._signature = session.signature()
        return self._signature_text

    def _require_session(self) -> Session:
        if self._session is not None:
            return self._session
        seconds = time.monotonic() - self._started
        if self._state == "error":
            raise StreamVLError(f"not ready: the model could not be loaded: {self._message}")
        raise StreamVLError(f"not ready: loading {self._values['model']!r} for {seconds:.0f} s; ask again in a moment")


def camera_settings(values: Mapping[str, Value]) -> CameraSettings:
    """The camera's part of the parameters."""
    return CameraSettings(
        topic=str(values["image_topic"]),
        transport=values["image_transport"],  # type: ignore[arg-type]  # one of the allowed values
        reliable=values["qos_reliability"] == "reliable",
        depth=int(values["qos_depth"]),
        timeout=float(values["image_timeout"]),
    )


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    # Types are checked by `checked`: rclpy would refuse a whole number where a number is asked for.
    descriptor = ParameterDescriptor(description=parameter.description, read_only=True, dynamic_typing=True)
    if parameter.allowed:
        descriptor.additional_constraints = f"one of {', '.join(parameter.allowed)}"
    if parameter.low is not None and parameter.high is not None:
        # Checked again by `checked`, whose message says more than rclpy's.
        if RosParameter("", value=parameter.default).type_ == RosParameter.Type.INTEGER:
            low, high = int(parameter.low), int(parameter.high)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=parameter.low, to_value=parameter.high)]
    return descriptor


def _route_logs(handler: logging.Handler) -> None:
    logger = logging.getLogger("stream_vl_ros")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C. Returns the exit code: 0, or 2 for parameters that cannot work."""
    try:
        rclpy.init(args=args)
        node = StreamVLNode()
    except (ConfigError, rclpy.exceptions.ParameterException, _RclError) as error:
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
        rclpy.try_shutdown()
    return 0


def _spin(executor: SingleThreadedExecutor, node: StreamVLNode) -> None:
    while rclpy.ok():
        try:
            executor.spin()
        except _RclError as error:
            # A caller that died cannot be answered; that must not take the node down.
            if rclpy.ok():
                node.get_logger().warning(
                    f"the middleware refused something, such as a reply to a caller that died: {error}"
                )
                time.sleep(0.1)  # one that comes again and again must not fill the log


if __name__ == "__main__":
    raise SystemExit(main())
