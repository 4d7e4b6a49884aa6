"""Real processes over real DDS: the node in one, cameras and clients in others, on a domain of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("stream_vl_ros.srv", reason="the package was not built: run `make build`")

from builtin_interfaces.msg import Time  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.subscription import Subscription  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from stream_vl_ros.action import AskStream  # noqa: E402
from stream_vl_ros.msg import Answer, StreamStatus  # noqa: E402
from stream_vl_ros.srv import Ask  # noqa: E402

from stream_vl_ros.engine.process_memory import status_bytes  # noqa: E402

sys.path.append(str(Path(__file__).parent))
from forked_node import ForkedProcess  # noqa: E402

TOPIC = "/test/image_raw"
SECOND = 1_000_000_000
EXECUTABLE = "lib/stream_vl_ros/stream_vl_node"


def node_executable() -> str:
    """The installed executable, found the way ROS finds it."""
    from ament_index_python import get_package_prefix

    return str(Path(get_package_prefix("stream_vl_ros")) / EXECUTABLE)


class NodeProcess:
    """A running node; its log goes to a file. A `fresh` one is the installed executable, from its first import on."""

    def __init__(self, env: dict[str, str], log: Path, parameters: dict[str, object], *, fresh: bool) -> None:
        file = parameters.pop("file", None)
        arguments = [a for name, value in parameters.items() for a in ("-p", f"{name}:={_yaml(value)}")]
        arguments += ["--params-file", str(file)] if file else []
        self.log_path = log
        arguments = ["--ros-args", *arguments]
        log.touch()
        self.process: ForkedProcess | subprocess.Popen[bytes]
        if not fresh:
            self.process = ForkedProcess(arguments, env, str(log))
            return
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, node_executable(), *arguments],
                env=env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    @property
    def resident(self) -> float:
        """MiB that are resident now."""
        return status_bytes("VmRSS", self.process.pid) / (1 << 20)

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"the node did not stop within 10 s:\n{self.log}") from None


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Robot:
    """The other side: a camera, a client, and a listener, in the test's own process."""

    topic = TOPIC

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._reached: set[object] = set()  # clients that the present node knows
        self.statuses: list[StreamStatus] = []
        self.answers: list[Answer] = []
        self._status = self._listen_to_status()
        self.node.create_subscription(Answer, "/stream_vl/answer", self.answers.append, 100)
        self.ask_client = self.node.create_client(Ask, "/stream_vl/ask")
        self.reset_client = self.node.create_client(Trigger, "/stream_vl/reset")
        self.camera = self.node.create_publisher(
            Image, TOPIC, QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        )

    def _listen_to_status(self) -> Subscription:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        return self.node.create_subscription(StreamStatus, "/stream_vl/status", self.statuses.append, latched)

    def forget(self) -> None:
        """Begin with another node."""
        # What the last node said at its end may not have been read yet, and would be taken for the next one's.
        self.node.destroy_subscription(self._status)
        self._status = self._listen_to_status()
        self.statuses.clear()
        self.answers.clear()
        self._reached.clear()

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()

    def spin_until(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"not within {timeout} s: {what}; last status: {self.statuses[-1:]}"
            self.executor.spin_once(timeout_sec=0.05)

    def spin_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.05)

    def reach(self, client, timeout: float = 30.0) -> None:
        """Wait until a client's service can be called.

        That it is there for us is not yet that we are there for it: a response that its middleware cannot deliver
        within 100 ms is lost, and on a busy machine a server may take as long to find a client.
        """
        self.spin_until(client.service_is_ready, timeout, f"{client.srv_name} is there")
        if client not in self._reached:
            self._reached.add(client)
            self.spin_for(0.5)

    def wait_ready(self, timeout: float = 60.0) -> None:
        self.spin_until(lambda: self.statuses and self.statuses[-1].state == "active", timeout, "the node is ready")
        self.spin_until(lambda: self.camera.get_subscription_count() > 0, 10, "the camera is matched")
        self.spin_until(self.ask_client.service_is_ready, 10, "the service is there")

    def publish(self, pixels: np.ndarray, stamp_ns: int, **fields: object) -> None:
        """An rgb8 image; `fields` spoil it."""
        message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="rgb8", step=pixels.shape[1] * 3)
        message.header.stamp = Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
        message.header.frame_id = "test_camera"
        message.data = pixels.tobytes()
        for name, value in fields.items():
            setattr(message, name, value)
        self.camera.publish(message)

    def ask(self, question: str, **fields: object):
        """Send a question; a future of the response."""
        return self.ask_client.call_async(Ask.Request(question=question, **fields))

    def result(self, future, timeout: float = 30.0):
        self.spin_until(future.done, timeout, "the service answers")
        return future.result()

    @staticmethod
    def unaccounted(status: StreamStatus) -> int:
        """Frames that are in no account, or in two."""
        known = status.frames_ingested + status.frames_skipped + status.frames_dropped + status.frames_waiting
        return int(status.frames_received - known)

    @staticmethod
    def unaccounted_questions(status: StreamStatus) -> int:
        """Questions that are in no account, or in two."""
        known = (
            status.questions_answered
            + status.questions_cancelled
            + status.questions_refused
            + status.questions_timed_out
            + status.questions_active
        )
        assert sum(status.refuse_counts) == status.questions_refused
        return int(status.questions_asked - known)

    def settled(self, received: int, waiting: int = 0, timeout: float = 30.0) -> StreamStatus:
        """The first status after `received` frames in which at most `waiting` are undecided."""

        def there() -> bool:
            return bool(self.statuses) and (
                self.statuses[-1].frames_received >= received and self.statuses[-1].frames_waiting <= waiting
            )

        self.spin_until(there, timeout, f"{received} frames received and at most {waiting} waiting")
        return self.statuses[-1]

    def questions_settled(self, asked: int, timeout: float = 30.0) -> StreamStatus:
        """The first status after `asked` questions in which none is being answered."""

        def there() -> bool:
            return bool(self.statuses) and (
                self.statuses[-1].questions_asked >= asked and self.statuses[-1].questions_active == 0
            )

        self.spin_until(there, timeout, f"{asked} questions asked and none being answered")
        status = self.statuses[-1]
        assert self.unaccounted_questions(status) == 0
        return status


class Feedback:
    """All that goals of `~/ask_stream` are told while they go on, by stream.

    A subscription of its own: rclpy's action client drops feedback that it has not read when the result is there.
    """

    def __init__(self, robot: Robot) -> None:
        self.pieces: dict[str, list[str]] = {}
        self._robot = robot
        self._subscription = robot.node.create_subscription(
            AskStream.Impl.FeedbackMessage, "/stream_vl/ask_stream/_action/feedback", self._take, QoSProfile(depth=1000)
        )
        robot.spin_until(lambda: robot.node.count_publishers(self._subscription.topic_name), 20, "the action is there")

    def _take(self, message: AskStream.Impl.FeedbackMessage) -> None:
        self.pieces.setdefault(message.feedback.stream, []).append(message.feedback.text)

    def written(self, stream: str = "") -> str:
        return "".join(self.pieces.get(stream, []))

    def close(self) -> None:
        self._robot.node.destroy_subscription(self._subscription)


@pytest.fixture(scope="session")
def robot(ros_domain_id: int) -> Iterator[Robot]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        it = Robot(ros_domain_id)
        yield it
        it.close()


@pytest.fixture
def feedback(robot: Robot) -> Iterator[Callable[[], Feedback]]:
    """`feedback()` begins to listen, once a node runs."""
    with contextlib.ExitStack() as stack:

        def listen() -> Feedback:
            it = Feedback(robot)
            stack.callback(it.close)
            return it

        yield listen


@pytest.fixture
def start_node(robot: Robot, ros_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """`start_node(target_fps=4.0)` starts a node with the seeded random checkpoint and waits until it is ready.

    `file` is a parameter file; with `fresh` it is the installed executable, not a process forked from one with all
    imports.
    """
    with contextlib.ExitStack() as stack:

        def start(ready: bool = True, fresh: bool = False, **parameters: object) -> NodeProcess:
            defaults: dict[str, object] = {
                "model": "random",
                "device": "cpu",
                "cpu_threads": 1,
                "image_topic": TOPIC,
                "qos_reliability": "reliable",
                "qos_depth": 1000,
                "queue_frames": 1000,
                "target_fps": 0.0,
                "flush_after": 0.5,
            }
            robot.forget()
            log = tmp_path / f"node-{len(list(tmp_path.iterdir()))}.log"
            node = NodeProcess(ros_env, log, defaults | parameters, fresh=fresh)
            stack.callback(node.stop)
            if ready:
                try:
                    robot.wait_ready()
                except AssertionError as error:
                    raise AssertionError(f"{error}\n{node.log}") from None
            return node

        yield start
    # One that was killed is taken for alive for 20 s, and would spoil the next test.
    robot.spin_until(lambda: robot.node.count_services("/stream_vl/ask") == 0, 60, "the nodes have left the graph")


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """64 pictures of noise, uint8 (64, 60, 80, 3)."""
    return np.random.default_rng(11).integers(0, 256, (64, 60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def demo_bag() -> Path:
    """The bag that comes with the package."""
    import stream_vl_ros.data

    return Path(next(iter(stream_vl_ros.data.__path__))) / "demo_bag"


@pytest.fixture(scope="session")
def endless_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seeded random checkpoint without its tokens that end an answer: answers are as long as asked for."""
    import shutil

    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    from stream_vl_ros.engine.random_checkpoint import random_checkpoint

    folder = tmp_path_factory.mktemp("endless") / "checkpoint"
    shutil.copytree(random_checkpoint(), folder)
    weights = load_file(folder / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # A score of 0 is never the largest of 270.
    weights["lm_head.weight"][tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
