"""One camera of the node with all that belongs to it: subscription, memory, standing questions, status, debug image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from rclpy.node import Node

from stream_vl_ros.engine.watch import WatchEvent
from stream_vl_ros.engine.watches import Watches
from stream_vl_ros.errors import EngineClosedError, FrameError
from stream_vl_ros.msg import StreamStatus
from stream_vl_ros.ros.camera import Camera, CameraSettings, ImageMessage
from stream_vl_ros.ros.debug_image import DebugImage
from stream_vl_ros.ros.parameters import Value, image_options
from stream_vl_ros.ros.qos import STATUS_QOS

if TYPE_CHECKING:
    from stream_vl_ros.ros.session import Session


class CameraStream:
    """A stream of the node. Used on the executor's thread.

    Attributes:
        name: its name; empty if it is the only one.
        camera: its topic.
        watches: its standing questions; they need no model.
        debug_image: its picture with the last answer drawn in.
        session: its memory, while the node is configured.
    """

    def __init__(
        self, node: Node, name: str, values: Mapping[str, Value], on_event: Callable[[str, WatchEvent], None]
    ) -> None:
        """Not subscribed yet.

        Args:
            node: whose it is.
            name: of the stream.
            values: all parameters as they hold for it.
            on_event: called on the engine's thread with the stream's name and each change of a watch.

        Raises:
            ConfigError: if its topic is no name of one.
        """
        self._node, self.name, self._values = node, name, values
        self.camera = Camera(node, camera_settings(values), self._on_image)
        self.watches = Watches(on_event=lambda event: on_event(name, event))
        self.session: Session | None = None
        self._publisher = node.create_publisher(StreamStatus, self.topic("status"), STATUS_QOS)
        self.debug_image = DebugImage(node, self.topic("debug_image"), image_options(values))
        self._signature: Future[str] | None = None
        self._signature_text = ""

    def topic(self, name: str) -> str:
        """Name of what belongs to this stream alone."""
        return f"~/{self.name}/{name}" if self.name else f"~/{name}"

    @property
    def frame_id(self) -> str:
        """Of the newest image."""
        return self.camera.frame_id

    def check(self, values: Mapping[str, Value]) -> None:
        """Raise `StreamVLError` for parameters that could not work now."""
        self.camera.check(camera_settings(values))
        if self.session is not None:
            self.session.check(values)

    def use(self, values: Mapping[str, Value]) -> None:
        """Go on with these parameters. What the engine does of them is left to `Session.reconfigure`.

        Raises `ConfigError` for what is no topic.
        """
        self.camera.use(camera_settings(values))
        self._values = values
        self.debug_image.options = image_options(values)

    def publish_status(self, state: str, trouble: str) -> tuple[StreamStatus, str, str]:
        """Tell how it stands.

        Args:
            state: of the node.
            trouble: of the node, in words; empty if there is none.

        Returns:
            What was told, why no image arrives, and the last problem otherwise.
        """
        session = self.session
        message = StreamStatus() if session is None else session.status()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self.frame_id
        message.state, message.stream = state, self.name
        if session is not None and not session.alive:
            message.state = "error"
        message.image_topic = self.camera.topic
        message.publishers = self.camera.publishers
        if session is None:
            message.model = str(self._values["model"])
            message.watches = len(self.watches)
        else:
            message.cache_signature = self._latest_signature(session)
        silence, problem = self.camera.silence(), trouble or message.message
        message.message = trouble or silence or problem
        self._publisher.publish(message)
        return message, silence, problem

    def close(self) -> None:
        """Stop drawing."""
        self.debug_image.close()

    def _on_image(self, message: ImageMessage) -> None:
        session = self.session
        if session is None:
            return
        try:
            session.push(message)
        except EngineClosedError as error:
            session.reject(FrameError(error.reason, ""))  # why it was shut down is told already
        except Exception as error:
            session.reject(FrameError("node_error", f"{type(error).__name__}: {error}"))
            raise
        self.debug_image.image(message)

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


def camera_settings(values: Mapping[str, Value]) -> CameraSettings:
    """The camera's part of the parameters."""
    return CameraSettings(
        topic=str(values["image_topic"]),
        transport=values["image_transport"],  # type: ignore[arg-type]  # one of the allowed values
        reliable=values["qos_reliability"] == "reliable",
        depth=int(values["qos_depth"]),
        timeout=float(values["image_timeout"]),
    )
