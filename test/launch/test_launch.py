"""The launch file and the params file with the real node: what it is told is what it reports."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_vl_ros.ros.parameters import PARAMETERS, Parameter, Value
from stream_vl_ros.web import options

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.parameter import parameter_value_to_python  # noqa: E402
from rclpy.parameter_client import AsyncParameterClient  # noqa: E402

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "stream_vl.yaml"
LAUNCH_FILE = ROOT / "launch" / "stream_vl.launch.py"
DEFAULTS = {p.name: p.default for p in PARAMETERS}
START_TIMEOUT = 90.0

# The folder launch/ of this repository makes `import launch` succeed without the real one; launch_ros tells.
launched = [
    pytest.mark.ros_launch,
    pytest.mark.skipif(
        importlib.util.find_spec("launch_ros") is None or shutil.which("ros2") is None,
        reason="launch_ros or the ros2 command is not installed; both come with ROS 2, not from PyPI",
    ),
]

Start = Callable[..., "Running"]
ReadParameters = Callable[[str], dict[str, Value]]


class Running:
    """A command in a process group of its own, and what it has printed."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in the output, waiting for it."""
        end = time.monotonic() + START_TIMEOUT
        while not (found := re.search(pattern, self.output())):
            assert self.process.poll() is None, f"it ended before it printed {pattern!r}:\n{self.output()}"
            assert time.monotonic() < end, f"no {pattern!r} in {START_TIMEOUT:.0f} s:\n{self.output()}"
            time.sleep(0.1)
        return found

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(ros_env: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts commands; all of them are gone after the test."""
    running: list[Running] = []

    def run(*command: str, **changes: str | None) -> Running:
        env = {**ros_env, "ROS_LOG_DIR": str(tmp_path / "log"), **changes}
        env = {k: v for k, v in env.items() if v is not None}
        running.append(Running(list(command), env, tmp_path / f"{len(running)}.txt"))
        return running[-1]

    yield run
    for process in running:
        process.kill()


@pytest.fixture
def parameters(
    ros_env: dict[str, str], ros_domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReadParameters]:
    """`parameters("/node")` asks a running node for the values of all its parameters."""
    for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.setenv(name, ros_env[name])
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=ros_domain_id)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    asker = rclpy.create_node("asker", context=context)
    executor.add_node(asker)

    def read(node: str) -> dict[str, Value]:
        client = AsyncParameterClient(asker, node)
        assert client.wait_for_services(START_TIMEOUT), f"{node} is not there"
        names = [p.name for p in PARAMETERS] + ["use_sim_time"]
        # A service may be seen before its way back is: what was asked then is never answered.
        for _ in range(int(START_TIMEOUT / 5)):
            future: Any = client.get_parameters(names)
            executor.spin_until_future_complete(future, 5.0)
            if future.done():
                break
        return dict(zip(names, map(parameter_value_to_python, future.result().values), strict=True))

    yield read
    executor.shutdown()
    asker.destroy_node()
    context.shutdown()


@pytest.fixture
def executable() -> str:
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":"):
        path = Path(prefix) / "lib" / "stream_vl_ros" / "stream_vl_node"
        if prefix and path.exists():
            return str(path)
    pytest.skip("not built: make build, then source scripts/env.sh")


def other(parameter: Parameter) -> Value:
    """A value that is allowed and not the default."""
    special = {"model": "random", "device": "cpu", "image_topic": "/other/image", "system_prompt": "yes: # 'no' é"}
    special |= {"memory_folder": "/var/tmp/some memories"}
    if parameter.name in special:
        return special[parameter.name]
    if parameter.allowed:
        return next(value for value in reversed(parameter.allowed) if value != parameter.default)
    if isinstance(parameter.default, bool):
        return not parameter.default
    return parameter.default + 1 if isinstance(parameter.default, int) else float(parameter.default) * 0.75 or 0.5


OTHERS = {p.name: other(p) for p in PARAMETERS} | {"dtype": "float32"}


def params_file(folder: Path, key: str, values: dict[str, Value]) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({key: {"ros__parameters": values}}))
    return path


# --- without launch -----------------------------------------------------------------------------------------


def test_launch_file_compiles() -> None:
    compile(LAUNCH_FILE.read_text(), str(LAUNCH_FILE), "exec")


def test_node_accepts_the_shipped_file(start: Start, executable: str, parameters: ReadParameters) -> None:
    start(executable, "--ros-args", "--params-file", str(CONFIG))
    assert parameters("/stream_vl") == {**DEFAULTS, "use_sim_time": False}


def test_node_takes_every_value_of_a_file(
    start: Start, executable: str, parameters: ReadParameters, tmp_path: Path
) -> None:
    assert all(OTHERS[p.name] != p.default for p in PARAMETERS)
    file = params_file(tmp_path, "/**", OTHERS)
    start(executable, "--ros-args", "--params-file", str(file), "-r", "__ns:=/robot", "-r", "__node:=eyes")
    assert parameters("/robot/eyes") == {**OTHERS, "use_sim_time": False}


# --- with the real ros2 launch ------------------------------------------------------------------------------


@pytest.fixture
def ros2_launch(start: Start) -> Start:
    def run(*arguments: str, **changes: str | None) -> Running:
        return start("ros2", "launch", str(LAUNCH_FILE), *arguments, **changes)

    return run


def interrupt(running: Running) -> tuple[int, float]:
    """Exit code and seconds after SIGINT."""
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    return running.process.wait(60), time.monotonic() - began


class TestLaunch:
    """`ros2 launch` with this repository's launch file."""

    pytestmark = launched

    def test_shows_every_argument(self, ros2_launch: Start) -> None:
        running = ros2_launch("--show-args")
        assert running.process.wait(START_TIMEOUT) == 0
        blocks = dict(re.findall(r"'(\w+)':\n((?:        .+\n?)+)", running.output()))
        own = {"params_file", "cameras", "namespace", "node_name", "log_level", "use_sim_time"}
        assert set(blocks) == own | set(DEFAULTS)
        for parameter in PARAMETERS:
            block = blocks[parameter.name]
            assert parameter.description in block
            shown = str(parameter.default).lower() if isinstance(parameter.default, bool) else parameter.default
            assert f"(default: '{shown}', or what params_file says)" in block
            assert all(choice in block for choice in parameter.allowed)
            if parameter.high is not None:
                assert f"From {parameter.low:.10g} to {parameter.high:.10g}." in block

    def test_every_argument_reaches_the_node(
        self, ros2_launch: Start, start: Start, parameters: ReadParameters
    ) -> None:
        texts = {name: str(value) for name, value in OTHERS.items()}
        running = ros2_launch(
            *(f"{name}:={text}" for name, text in texts.items()), "use_sim_time:=true", "namespace:=robot",
            "node_name:=eyes", "log_level:=warn", FASTDDS_BUILTIN_TRANSPORTS="UDPv4",
        )  # fmt: skip
        assert parameters("/robot/eyes") == {**OTHERS, "use_sim_time": True}
        assert transports(running) == "UDPv4"
        # `autostart` is false: somebody has to configure it.
        # Half a second, which is what it looks for nodes by itself, is short.
        configured = start("ros2", "lifecycle", "set", "--no-daemon", "--spin-time", "5", "/robot/eyes", "configure")
        assert configured.process.wait(START_TIMEOUT) == 0, configured.output()
        assert "Transitioning successful" in configured.output()
        running.wait_for("answers mean nothing")
        assert "[INFO] [robot.eyes]" not in re.sub(r"\[\d+\.\d+\] ", "", running.output())

    @pytest.mark.parametrize("key", ["/**", "/stream_vl"])
    def test_argument_beats_params_file_beats_default(
        self, ros2_launch: Start, parameters: ReadParameters, tmp_path: Path, key: str
    ) -> None:
        file = params_file(tmp_path, key, {"chunk_frames": 8, "target_fps": 5.0, "use_sim_time": True})
        # 1 and 6 are a whole number to YAML, a text and a number to the node.
        running = ros2_launch(f"params_file:={file}", "model:=1", "target_fps:=6", FASTDDS_BUILTIN_TRANSPORTS=None)
        assert parameters("/stream_vl") == {
            **DEFAULTS, "model": "1", "target_fps": 6.0, "chunk_frames": 8, "use_sim_time": True
        }  # fmt: skip
        assert transports(running) == "LARGE_DATA"

    def test_ctrl_c_ends_it(self, ros2_launch: Start) -> None:
        running = ros2_launch("model:=random")
        running.wait_for("active, watching")
        code, seconds = interrupt(running)
        assert code == 0
        assert "process has finished cleanly" in running.output()
        assert "Traceback" not in running.output()
        # launch sends SIGTERM after 5 s and says so.
        assert "escalating" not in running.output(), f"{seconds:.1f} s"

    @pytest.mark.parametrize(
        ("argument", "reason"),
        [
            ("target_fps:=fast", "must be a number"),
            ("target_fps:=nan", "must be a number"),
            ("target_fps:=-1", "must be at least 0"),
            ("chunk_frames:=4.5", "must be a whole number"),
            ("chunk_frames:=257", "must be at most 256"),
            ("dtype:=int8", "must be one of auto"),
            ("publish_signature:=maybe", "must be true or false"),
            ("log_level:=loud", "must be one of debug"),
            ("params_file:=/no/such.yaml", "there is no such file"),
            ("cameras:=front=/a,front=/b", "'front' is there twice"),
            ("cameras:=all=/a", "no name of a stream"),
        ],
    )
    def test_wrong_value_is_one_clear_error(self, ros2_launch: Start, argument: str, reason: str) -> None:
        running = ros2_launch(argument)
        assert running.process.wait(START_TIMEOUT) == 1
        (error,) = re.findall(r".*ERROR.*", running.output())
        name, value = argument.split(":=")
        assert name in error
        assert value in error
        assert reason in error
        assert "process started" not in running.output()


def transports(running: Running) -> str:
    """FASTDDS_BUILTIN_TRANSPORTS as the launched node got it."""
    pid = running.wait_for(r"process started with pid \[(\d+)\]")[1]
    environ = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in environ if "=" in line)["FASTDDS_BUILTIN_TRANSPORTS"]


class TestReplay:
    """`ros2 launch` with replay.launch.py: the node, and a recording for it."""

    pytestmark = launched
    file = LAUNCH_FILE.with_name("replay.launch.py")
    bag = Path(__file__).parents[2] / "stream_vl_ros" / "data" / "demo_bag"

    def test_shows_every_argument(self, start: Start) -> None:
        running = start("ros2", "launch", str(self.file), "--show-args")
        assert running.process.wait(START_TIMEOUT) == 0
        names = set(re.findall(r"'(\w+)':\n", running.output()))
        assert {"bag", "bag_topic", "rate", "start", "loop", "params_file", "namespace"} | set(DEFAULTS) <= names

    def test_replays_to_the_node(self, start: Start) -> None:
        running = start("ros2", "launch", str(self.file), f"bag:={self.bag}", "rate:=8", "image_topic:=/eyes")
        running.wait_for("active, watching /eyes")
        running.wait_for(r"\[replay-\d+\]: process has finished cleanly")
        assert "Traceback" not in running.output()
        assert interrupt(running)[0] == 0

    @pytest.mark.parametrize(
        ("given", "topic"),
        [
            (("namespace:=robot", "image_topic:=cam/img"), "/robot/cam/img"),
            (("params_file",), "/my/cam"),
            (("use_sim_time:=true",), "/camera/image_raw"),
        ],
    )
    def test_replays_to_what_the_node_watches(self, start: Start, tmp_path: Path, given, topic: str) -> None:
        file = params_file(tmp_path, "/**", {"image_topic": "/my/cam", "model": "random"})
        arguments = [f"params_file:={file}" if a == "params_file" else a for a in given]
        running = start("ros2", "launch", str(self.file), f"bag:={self.bag}", "rate:=8", "model:=random", *arguments)
        running.wait_for(f"active, watching {topic}")
        running.wait_for(r"\[replay-\d+\]: process has finished cleanly")
        assert interrupt(running)[0] == 0

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ((f"bag:={bag}", "cameras:=front,rear"), "plays one camera"),
            (("bag:=/no/such/bag",), "there is no such recording"),
            ((f"bag:={bag}", "loop:=maybe"), "must be true or false"),
            ((), "bag"),
        ],
    )
    def test_wrong_value_is_one_clear_error(self, start: Start, arguments: tuple[str, ...], reason: str) -> None:
        running = start("ros2", "launch", str(self.file), *arguments)
        assert running.process.wait(START_TIMEOUT) == 1
        assert reason in running.output()


class TestMultiCamera:
    """`ros2 launch` with multi_camera.launch.py: several cameras on one model."""

    pytestmark = launched
    file = LAUNCH_FILE.with_name("multi_camera.launch.py")

    def test_shows_every_argument(self, start: Start) -> None:
        running = start("ros2", "launch", str(self.file), "--show-args")
        assert running.process.wait(START_TIMEOUT) == 0
        names = set(re.findall(r"'(\w+)':\n", running.output()))
        assert {"cameras", "params_file", "namespace", "node_name"} | set(DEFAULTS) <= names
        assert "front=/front/image_raw,rear=/rear/image_raw" in running.output()

    def test_watches_each_camera(self, start: Start) -> None:
        running = start(
            "ros2", "launch", str(self.file), "cameras:=left=/eyes/left,right=/eyes/right,back", "model:=random"
        )
        running.wait_for("active, watching left on /eyes/left, right on /eyes/right, back on /back/image_raw")
        assert interrupt(running)[0] == 0

    def test_a_params_file_may_name_them(self, start: Start, tmp_path: Path) -> None:
        values = {"streams": ["left"], "stream": {"left": {"image_topic": "/eyes/left"}}, "model": "random"}
        file = params_file(tmp_path, "/**", values)
        running = start("ros2", "launch", str(self.file), f"params_file:={file}")
        running.wait_for("active, watching left on /eyes/left")
        assert interrupt(running)[0] == 0

    def test_has_cameras_without_being_told(self, start: Start) -> None:
        running = start("ros2", "launch", str(self.file), "model:=random", "autostart:=false")
        running.wait_for("process started")
        assert interrupt(running)[0] == 0
        running = start("ros2", "launch", str(self.file), "model:=random", "namespace:=robot")
        running.wait_for("active, watching front on /front/image_raw, rear on /rear/image_raw")
        assert interrupt(running)[0] == 0


served = [
    *launched,
    pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="the web packages are not installed"),
]


class TestWeb:
    """`ros2 launch` with web.launch.py: the node and its live page, or the page alone."""

    pytestmark = served
    file = LAUNCH_FILE.with_name("web.launch.py")

    def test_shows_every_argument(self, start: Start) -> None:
        running = start("ros2", "launch", str(self.file), "--show-args")
        assert running.process.wait(START_TIMEOUT) == 0
        names = set(re.findall(r"'(\w+)':\n", running.output()))
        assert {p.name for p in options.PARAMETERS} | {"params_file", "namespace", "node_name"} | set(DEFAULTS) <= names
        assert all(p.description in running.output() for p in options.PARAMETERS if p.name != "node")

    def test_starts_node_and_page(self, start: Start) -> None:
        running = start(
            "ros2", "launch", str(self.file), "port:=0", "model:=random", "namespace:=robot", "node_name:=eyes"
        )
        running.wait_for("active, watching /camera/image_raw")
        address = running.wait_for(r"the live page is at (\S+)")[1]
        with urllib.request.urlopen(address, timeout=10) as page:
            assert b"<title>stream_vl live</title>" in page.read()
        code, seconds = interrupt(running)
        assert code == 0
        assert "Traceback" not in running.output()
        assert "escalating" not in running.output(), f"{seconds:.1f} s"

    def test_starts_the_page_alone(self, start: Start) -> None:
        running = start("ros2", "launch", str(self.file), "port:=0", "node:=false")
        running.wait_for("the live page is at")
        assert "stream_vl_node" not in running.output()
        assert interrupt(running)[0] == 0

    @pytest.mark.parametrize(
        ("argument", "reason"),
        [
            ("port:=many", "launch argument port:=many"),
            ("port:=70000", "must be at most 65535"),
            ("node:=maybe", "maybe"),
        ],
    )
    def test_wrong_value_is_one_clear_error(self, start: Start, argument: str, reason: str) -> None:
        running = start("ros2", "launch", str(self.file), argument)
        assert running.process.wait(START_TIMEOUT) == 1
        assert reason in running.output()
        assert "process started" not in running.output()


@pytest.mark.parametrize("name", ["replay", "multi_camera", "web"])
def test_the_other_launch_files_compile(name: str) -> None:
    file = LAUNCH_FILE.with_name(f"{name}.launch.py")
    compile(file.read_text(), str(file), "exec")
