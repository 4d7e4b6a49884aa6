"""Small bags, made on the spot, and processes that replay and watch them."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from stream_vl_ros.bag.writer import ImageBagWriter, Storage

ORIGIN = 1_700_000_000_000_000_000
Env = dict[str, str]


def numbered(i: int, *, height: int = 120, width: int = 160) -> np.ndarray:
    """A noisy picture that differs for every number."""
    return np.random.RandomState(i).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def make_bag(tmp_path: Path) -> Callable[..., Path]:
    """`make_bag("mcap", 40)` writes a bag of 40 pictures at 20 Hz and returns its folder."""

    def make(storage: Storage = "mcap", count: int = 40, *, hz: int = 20, name: str = "bag", side: int = 120) -> Path:
        path = tmp_path / f"{name}_{storage}"
        with ImageBagWriter(path, storage=storage) as writer:
            for i in range(count):
                # Recorded 7 ms after it was taken, so that mixing up the two times shows.
                stamp = ORIGIN + i * 1_000_000_000 // hz
                writer.write(numbered(i, height=side, width=side + 40), stamp, log_time=stamp + 7_000_000)
        return path

    return make


def png(i: int) -> bytes:
    """The picture `numbered(i)` as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(numbered(i)).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def make_cameras(tmp_path: Path) -> Callable[..., Path]:
    """`make_cameras("mcap")` writes 2 s of two cameras: /left raw at 20 Hz; /right as PNG at 10 Hz, 20 ms later."""

    def make(storage: Storage = "mcap") -> Path:
        path = tmp_path / f"cameras_{storage}"
        store = get_typestore(Stores.ROS2_JAZZY)
        types = store.types
        plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[storage]

        def header(stamp: int) -> object:
            time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
            return types["std_msgs/msg/Header"](stamp=time, frame_id="camera")

        def raw(i: int, stamp: int) -> object:
            kind = types["sensor_msgs/msg/Image"]
            return kind(header(stamp), 120, 160, "rgb8", 0, 480, numbered(i).reshape(-1))

        def compressed(i: int, stamp: int) -> object:
            return types["sensor_msgs/msg/CompressedImage"](header(stamp), "png", np.frombuffer(png(i), np.uint8))

        left = [(ORIGIN + i * 50_000_000, "/left", "sensor_msgs/msg/Image", raw, i) for i in range(40)]
        right = [
            (ORIGIN + 20_000_000 + i * 100_000_000, "/right", "sensor_msgs/msg/CompressedImage", compressed, i)
            for i in range(20)
        ]
        connections = {}
        with Writer(path, version=8, storage_plugin=plugin) as writer:
            for topic, msgtype in (
                ("/left", "sensor_msgs/msg/Image"),
                ("/right", "sensor_msgs/msg/CompressedImage"),
                ("/text", "std_msgs/msg/String"),
            ):
                connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
            text = store.serialize_cdr(types["std_msgs/msg/String"]("hello"), "std_msgs/msg/String")
            writer.write(connections["/text"], ORIGIN, text)
            for stamp, topic, msgtype, build, i in sorted(left + right, key=lambda entry: entry[0]):
                writer.write(connections[topic], stamp + 7_000_000, store.serialize_cdr(build(i, stamp), msgtype))
        return path

    return make


class Watcher:
    """A subscriber process and the lines that it printed: images, and ticks of the clock."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.images: list[dict[str, Any]] = []
        self.ticks: list[dict[str, Any]] = []
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": True}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line)
            (self.ticks if "time" in message else self.images).append(message)

    def settle(self, count: int, seconds: float = 10.0) -> list[dict[str, Any]]:
        """Wait for `count` images and half a second longer, in case there are too many."""
        deadline = time.monotonic() + seconds
        while len(self.images) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        return self.images


@contextmanager
def _watching(env: Env, *topics: str, reliability: str = "reliable", delay: float = 0.0) -> Iterator[Watcher]:
    script = Path(__file__).with_name("subscriber.py")
    process = subprocess.Popen(
        [sys.executable, str(script), reliability, str(delay), *(topics or ("/camera/image_raw",))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        yield Watcher(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def watching(ros_env: Env) -> Callable[..., AbstractContextManager[Watcher]]:
    """A context with a subscriber of `"/left", "/right=CompressedImage"` and so on, in a process of its own."""
    return functools.partial(_watching, ros_env)


@pytest.fixture
def replay(ros_env: Env) -> Callable[..., tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]]:
    """`replay(bag, "--rate", "2")` runs the command to its end and returns its events and its result."""

    def run(*args: str | Path, wait: bool = True) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
        extra = ["--wait-for-subscribers", "1"] if wait else []
        command = [sys.executable, "-m", "stream_vl_ros.bag.replay", *map(str, args), *extra, "--progress-json"]
        done = subprocess.run(command, env=ros_env, capture_output=True, text=True, timeout=60, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()], done

    return run
