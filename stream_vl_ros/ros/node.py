"""The node: image topics in, questions answered, status out."""

from __future__ import annotations

import functools
import logging
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from lifecycle_msgs.msg import Transition
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType

from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.ros.asking import Asking
from stream_vl_ros.ros.awaiting import awaitable
from stream_vl_ros.ros.camera_stream import CameraStream
from stream_vl_ros.ros.diagnosing import Diagnosing
from stream_vl_ros.ros.logs import RosLogHandler
from stream_vl_ros.ros.managed import ManagedNode
from stream_vl_ros.ros.parameter_desk import ParameterDesk, differences
from stream_vl_ros.ros.remembering import Remembering
from stream_vl_ros.ros.settings import Settings
from stream_vl_ros.ros.watching import WatchDesk
from stream_vl_ros.ros.working import on_a_thread

if TYPE_CHECKING:
    from stream_vl_ros.engine.reconfigured import Reconfigured
    from stream_vl_ros.ros.session import Engine, Session

NODE_NAME = "stream_vl"
STATUS_PERIOD = 1.0
# Shutting down must not wait for a model that is still loading or for a long chunk.
CLOSE_TIMEOUT = 1.0


class StreamVLNode(ManagedNode):
    """Watches topics, remembers them, answers on `~/ask`.

    Configuring loads the model, activating subscribes; deactivating ends the subscriptions and keeps what was seen,
    about which questions are answered still; cleaning up lets go of the model and of all memory.

    Nothing here touches the model: images and questions go to the engine's threads, and answers come back as futures.
    """

    def __init__(self) -> None:
        """Unconfigured. Raises `ConfigError` for parameters that cannot work."""
        super().__init__(NODE_NAME, allow_undeclared_parameters=True)
        self._logs = RosLogHandler(self.get_logger())
        _route_logs(self._logs)
        try:
            self._build()
        except BaseException:
            self._drop_logs()
            # Others would take it for alive until its lease is over, and wait for its services.
            self.destroy_node()
            raise

    def _build(self) -> None:
        self._desk = ParameterDesk(self)
        self._trouble = ""  # why the model could not be loaded
        self._doing, self._doing_since = "", 0.0  # what loading is at
        self._engine: Engine | None = None
        self._twins = 0  # other nodes of the same name
        self._watching = WatchDesk(self, lambda: self._trouble)
        self._streams = {
            name: CameraStream(self, name, values, self._watching.event)
            for name, values in self._desk.settings.streams.items()
        }
        self._watching.serve(self._streams)
        self._watching.place(self._desk.settings.watches)
        self._diagnosing = Diagnosing(self, list(self._streams))
        self._asking = Asking(self, self._streams, self._session_of)
        self._remembering = Remembering(self, self._streams, self._session_of)
        self._desk.serve(
            configured=lambda: self.lifecycle_state != "unconfigured", check=self._check, changed=self._on_changed
        )
        # Not the node's clock: with use_sim_time that one stands still just when no image comes.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._status_timer = self.create_timer(STATUS_PERIOD, self._publish_status, clock=steady)
        self._start_up = self.create_guard_condition(self._autostart, callback_group=ReentrantCallbackGroup())
        if self._desk.settings.node["autostart"]:
            self._start_up.trigger()
        else:
            self._publish_status()

    # --- life cycle -----------------------------------------------------------------------------------------

    async def _autostart(self) -> None:
        try:
            if await self.change_state(Transition.TRANSITION_CONFIGURE):
                await self.change_state(Transition.TRANSITION_ACTIVATE)
        except StreamVLError as error:  # somebody else was faster
            self.get_logger().warning(f"autostart: {error}")

    async def configure(self) -> None:
        """Load the model, on a thread of its own."""
        settings, started = self._desk.settings, time.monotonic()
        self._trouble, self._doing, self._doing_since = "", "starting", started
        self._publish_status()
        try:
            self._engine = await awaitable(self, on_a_thread(lambda: self._load(settings), "stream_vl_load"))
        except Exception as error:
            known = isinstance(error, StreamVLError)
            self._trouble = str(error) if known else f"{type(error).__name__}: {error}"
            if not known:
                logging.getLogger(__name__).error("the model could not be loaded", exc_info=error)
            raise StreamVLError(self._trouble) from error
        finally:
            self._doing = ""
            self._soon()
        for name, stream in self._streams.items():
            stream.session = self._engine.sessions[name]
        # What was changed while it was loading.
        self._reconfigure(settings, self._desk.settings)
        if not self._engine.model.answers_mean_something:
            self.get_logger().warning("this is the seeded random checkpoint: its answers mean nothing")
        self.get_logger().info(f"model ready after {time.monotonic() - started:.1f} s")

    async def activate(self) -> None:
        """Subscribe."""
        for stream in self._streams.values():
            stream.camera.open()
        watched = ", ".join(
            f"{stream.name} on {stream.camera.topic}" if stream.name else stream.camera.topic
            for stream in self._streams.values()
        )
        self.get_logger().info(f"active, watching {watched}")
        self._soon()

    async def deactivate(self) -> None:
        """End the subscriptions; images that are here already are taken first."""
        for stream in self._streams.values():
            stream.camera.take_waiting()
            stream.camera.close()
        self.get_logger().info("inactive: no images are taken; what was seen is kept")
        self._soon()

    async def clean_up(self) -> None:
        """Let go of the model and of everything that was seen."""
        engine, self._engine = self._engine, None
        for stream in self._streams.values():
            stream.camera.close()
            stream.session = None
        if engine is not None:
            await awaitable(self, on_a_thread(lambda: engine.close(600.0), "stream_vl_close"))
            release = engine.release
            del engine
            await awaitable(self, on_a_thread(release, "stream_vl_release"))
        self._trouble = ""
        self.get_logger().info("cleaned up: the model and all memory are gone")
        self._soon()

    async def shut_down(self) -> None:
        """As cleaning up, for good."""
        await self.clean_up()

    async def recover(self) -> None:
        """As cleaning up."""
        await self.clean_up()

    def close(self) -> None:
        """End at once, from any state; waiting questions get an error."""
        self._asking.close()
        for stream in self._streams.values():
            stream.close()
        if self._engine is not None:
            self._engine.close(CLOSE_TIMEOUT)
        self._drop_logs()

    def _drop_logs(self) -> None:
        self._logs.close()
        logging.getLogger("stream_vl_ros").removeHandler(self._logs)

    def _load(self, settings: Settings) -> Engine:
        model = settings.node["model"]
        steps = iter(range(1, 4))

        def tell(what: str) -> None:
            self._doing = f"step {next(steps)} of 3, {what}"
            self.get_logger().info(f"loading model {model!r}: {self._doing}")

        tell("importing PyTorch and transformers")
        # It takes seconds, in which the node can already be seen and stopped.
        from stream_vl_ros.ros.session import Engine

        watches = {name: stream.watches for name, stream in self._streams.items()}
        return Engine.open(settings.node, settings.streams, watches, tell)

    # --- status ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """As ~/status has it: the state of the life cycle, but "loading", and "error" if that failed."""
        if self._doing:
            return "loading"
        if self._trouble:
            return "error"
        return self.lifecycle_state

    def _soon(self) -> None:
        """Tell of a change of state when it is over."""
        if self.executor is not None:
            self.executor.create_task(self._publish_status)

    def _warn_of_twins(self) -> None:
        own = (self.get_name(), self.get_namespace())
        twins = self.get_node_names_and_namespaces().count(own) - 1
        if twins > self._twins:
            self.get_logger().warning(
                f"{twins + 1} nodes are called {self.get_fully_qualified_name()}: which of them answers a request is "
                "left to chance; give each a name of its own (node_name:=, or -r __node:=)"
            )
        self._twins = twins

    def _publish_status(self) -> None:
        self._warn_of_twins()
        trouble = self._trouble or self._progress()
        for stream in self._streams.values():
            self._diagnosing.tell(*stream.publish_status(self.state, trouble))
        self._diagnosing.publish()

    def _progress(self) -> str:
        if not self._doing:
            return ""
        seconds = time.monotonic() - self._doing_since
        return f"loading {self._desk.settings.node['model']!r} for {seconds:.0f} s: {self._doing}"

    # --- requests -------------------------------------------------------------------------------------------

    def _session_of(self, stream: CameraStream) -> Session:
        if stream.session is not None:
            return stream.session
        if self._trouble:
            raise StreamVLError(
                f"not ready: the model could not be loaded: {self._trouble}; mend it and configure the node again"
            )
        if self._doing:
            raise StreamVLError(f"not ready: {self._progress()}; ask again in a moment")
        if self.lifecycle_state in ("shuttingdown", "finalized"):
            raise StreamVLError(f"not ready: the node is {self.lifecycle_state}, for good; start it again")
        raise StreamVLError(
            f"not ready: the node is {self.lifecycle_state}, and holds no model; configure it, e.g. "
            f"ros2 lifecycle set {self.get_fully_qualified_name()} configure"
        )

    # --- parameters -----------------------------------------------------------------------------------------

    def _check(self, settings: Settings) -> None:
        """Raise `StreamVLError` for what the engine could not do now."""
        for name, stream in self._streams.items():
            stream.check(settings.streams[name])
        self._watching.check(settings.watches)

    def _on_changed(self, before: Settings, after: Settings) -> None:
        changes = differences(before, after)
        if not changes:
            return
        self.get_logger().info(f"parameters changed: {changes}")
        for name, stream in self._streams.items():
            if after.streams[name] != before.streams[name]:
                stream.use(after.streams[name])
        self._reconfigure(before, after)
        self._watching.place(after.watches)

    def _reconfigure(self, before: Settings, after: Settings) -> None:
        """Let the engine go on with new parameters."""
        for name, stream in self._streams.items():
            values = after.streams[name]
            if stream.session is not None and values != before.streams[name]:
                stream.session.reconfigure(values).add_done_callback(functools.partial(self._told, name))

    def _told(self, stream: str, done: Future[Reconfigured]) -> None:
        """What the engine made of new parameters; on its thread."""
        where = f"{stream}: " if stream else ""
        if error := done.exception():
            self.get_logger().error(f"{where}the new parameters could not be taken: {error}")
        elif done.result().anew or done.result().forgotten:
            self.get_logger().warning(f"{where}{done.result()}")


def _route_logs(handler: logging.Handler) -> None:
    logger = logging.getLogger("stream_vl_ros")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
