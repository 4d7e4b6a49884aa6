"""Node, recording and page in processes of their own."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT = 60.0

sys.path.append(str(ROOT / "test" / "ros"))


def until(condition: Callable[[], Any], what: str | Callable[[], str], seconds: float = LIMIT) -> Any:
    """What `condition` returns, once that is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what() if callable(what) else what}"
        time.sleep(0.05)
    return value


class Program:
    """A process with its output in a file; gone after the tests."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log_path = log
        with log.open("w") as out:
            self.process = subprocess.Popen(command, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def end(self) -> tuple[int, float]:
        """Exit code and seconds after Ctrl-C."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(20), time.monotonic() - began
        finally:
            self.process.kill()


class WebProcess(Program):
    """The page's process."""

    def __init__(self, env: dict[str, str], log: Path, **parameters: object) -> None:
        arguments = [a for name, value in parameters.items() for a in ("-p", f"{name}:={value}")]
        command = [sys.executable, "-m", "stream_vl_ros.web.main", "--ros-args", "-p", "port:=0", *arguments]
        super().__init__(command, env, log)

    def address(self) -> str:
        """Where it serves, once it does."""

        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, self.log
            return re.search(r"the live page is at (\S+)/", self.log)

        return str(until(found, "the page is served")[1])


class Rig:
    """Node, recording and page, which tests may end and start again."""

    topic = "/camera/image_raw"

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.env, self.folder = env, folder
        self._stack = contextlib.ExitStack()
        self._count = 0
        self.node: Any = None
        self.replays: list[Program] = []
        self.start_node()
        self.start_replay(self.topic)
        self.web = self.start_web(history_folder=folder / "history")
        self.address = self.web.address()

    def _log(self, name: str) -> Path:
        self._count += 1
        return self.folder / f"{name}-{self._count}.log"

    def start_node(self, **parameters: object) -> None:
        from forked_node import ForkedProcess

        values: dict[str, object] = {
            "device": "cpu",
            "cpu_threads": 1,
            "image_topic": self.topic,
            "qos_reliability": "reliable",
            "qos_depth": 100,
            "image_timeout": 2.0,
            "eviction": "importance",
            "budget_seconds": 120.0,
            **parameters,
        }
        arguments = ["--ros-args", *(a for n, v in values.items() for a in ("-p", f"{n}:={v}"))]
        self.node_log = self._log("node")
        self.node_log.touch()
        self.node = ForkedProcess(arguments, self.env, str(self.node_log))

    def kill_node(self, number: int = signal.SIGKILL) -> None:
        self.node.send_signal(number)
        self.node.wait(20)

    def start_replay(self, topic: str, *more: str) -> Program:
        command = [
            *(sys.executable, "-m", "stream_vl_ros.bag.replay", str(ROOT / "stream_vl_ros" / "data" / "demo_bag")),
            *("--to", topic, "--loop", "--rate", "2", *more),
        ]
        self.replays.append(Program(command, self.env, self._log("replay")))
        return self.replays[-1]

    def start_web(self, **parameters: object) -> WebProcess:
        web = WebProcess(self.env, self._log("web"), **parameters)
        self._stack.callback(web.process.kill)
        return web

    def close(self) -> None:
        for replay in self.replays:
            replay.process.kill()
        if self.node.poll() is None:
            self.kill_node(signal.SIGINT)
        self._stack.close()
