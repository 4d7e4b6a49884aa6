"""Mutated parameters: values that can work, or a `ConfigError` that names the parameter."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from mutated_parameters import FILES, GOOD, NAMES, VALUES, file, given

from stream_vl_ros.bag import ask_settings
from stream_vl_ros.engine.process_memory import status_bytes
from stream_vl_ros.errors import ConfigError, StreamVLError
from stream_vl_ros.ros.settings import Settings, is_ours

MIB = 1 << 20
# MiB that each thousands of them may take more, once what is cached is there.
MOST = 60
WARM = 100
CONFIG = Path(__file__).parents[2] / "config" / "stream_vl.yaml"


def resident() -> float:
    return status_bytes("VmRSS") / MIB


def test_thousands_of_parameters(fuzz_seed):
    taken = refused = 0
    before = 0.0
    for number in range(5000):
        if number == WARM:
            before = resident()
        values = given(fuzz_seed, number)
        try:
            settings = Settings(values)
        except ConfigError as error:
            problem = str(error)
        else:
            taken += 1
            assert settings.streams and all(len(v) == len(settings.node) for v in settings.streams.values())
            continue
        refused += 1
        assert any((name.rpartition(".")[0] or name) in problem for name in values), (values, problem)
    assert taken > 50 and refused > 2000
    assert resident() - before < MOST


def test_thousands_of_changes(fuzz_seed):
    """A change is taken as a whole or refused, and nothing is half changed."""
    random_ = random.Random(fuzz_seed)
    names = [name for name in NAMES if is_ours(name)]
    settings, taken = Settings(GOOD), 0
    started = 0.0
    for number in range(5000):
        if number == WARM:
            started = resident()
        changes = {random_.choice(names): random_.choice(VALUES) for _ in range(random_.randint(1, 3))}
        before = dict(settings.given)
        try:
            after = settings.changed(changes, configured=bool(number % 2))
        except ConfigError:
            pass
        else:
            taken += 1
            assert Settings(after.given).streams == after.streams
        assert dict(settings.given) == before
    assert taken > 20
    assert resident() - started < MOST


def test_thousands_of_parameter_files(tmp_path, fuzz_seed):
    path, good = tmp_path / "mutated.yaml", CONFIG.read_text()
    taken = refused = 0
    before = 0.0
    for number in range(400):
        if number == WARM:
            before = resident()
        path.write_bytes(file(fuzz_seed, number, good))
        try:
            ask_settings.settings(path, (), {})
        except StreamVLError:
            refused += 1
        else:
            taken += 1
    assert taken > 30 and refused > 80
    assert resident() - before < MOST


@pytest.mark.parametrize("number", range(len(FILES)))
def test_what_yaml_chokes_on(tmp_path, number):
    """In no time: aliases of aliases are not unfolded."""
    path = tmp_path / "odd.yaml"
    path.write_bytes(FILES[number].encode("utf-8", "surrogatepass"))
    with pytest.raises(StreamVLError, match=r"odd\.yaml|target_fps"):
        ask_settings.settings(path, (), {})


NODE = """
import sys
from stream_vl_ros.ros.main import main
sys.exit(main(["--ros-args", "--params-file", sys.argv[1]]))
"""
WRONG = {
    "target_fps: -1.0": "target_fps",
    "target_fps: .nan": "target_fps",
    "target_fps: 'fast'": "target_fps",
    "chunk_frames: 1.5": "chunk_frames",
    "chunk_frames: true": "chunk_frames",
    "eviction: 5": "eviction",
    "image_topic: 'a b'": "image_topic",
    "image_topic: ''": "image_topic",
    "streams: 5": "streams",
    "streams: ['a', 'a']": "streams",
    "streams: ['../x']": "streams",
    "watches: ['door']": "watch.door.question",
    "{watches: ['door'], watch.door.question: '', }": "watch.door",
    "stream.nobody.target_fps: 1.0": "stream.nobody",
    "budget_seconds: 1e400": "budget_seconds",
    "queue_frames: 99999999999999999999": "queue_frames",
    "[": "yaml",
    "a: [1, 'b', {}]": "mutated.yaml",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_node_does_not_start_with_what_cannot_work(tmp_path, ros_env, text):
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    path = tmp_path / "mutated.yaml"
    path.write_text("/**:\n  ros__parameters:\n    " + text + "\n")
    node = subprocess.run(
        [sys.executable, "-c", NODE, str(path)], env=ros_env, capture_output=True, text=True, timeout=60, check=False
    )
    assert node.returncode == 2, (node.returncode, node.stderr)
    assert WRONG[text] in node.stderr and "Traceback" not in node.stderr


NODES = """
import sys
from pathlib import Path
import rclpy
from rclpy.impl.implementation_singleton import rclpy_implementation
from stream_vl_ros.engine.process_memory import status_bytes
from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.node import StreamVLNode

# What `main` takes for parameters that cannot work.
REFUSED = (ConfigError, rclpy.exceptions.ParameterException, rclpy_implementation.RCLError)
taken = refused = before = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    if taken + refused == 100:  # what is cached is there
        before = status_bytes("VmRSS")
    print(path.name, file=sys.stderr, flush=True)
    try:
        rclpy.init(args=["--ros-args", "--params-file", str(path), "-p", "autostart:=false"])
        node = StreamVLNode()
    except REFUSED as error:
        assert str(error)
        refused += 1
    else:
        taken += 1
        node.close()
        node.destroy_node()
    finally:
        rclpy.try_shutdown()
print(taken, refused, (status_bytes("VmRSS") - before) >> 20)
"""


def test_nodes_of_mutated_parameter_files(tmp_path, ros_env, fuzz_seed):
    """ROS has a parser of its own for them, in C; the process must outlive whatever it is given."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    good = CONFIG.read_text()
    for number in range(400):
        (tmp_path / f"{number:03}.yaml").write_bytes(file(fuzz_seed, number, good))
    child = subprocess.run(
        [sys.executable, "-c", NODES, str(tmp_path)],
        env=ros_env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    taken, refused, grown = map(int, child.stdout.splitlines()[-1].split())
    assert taken > 20 and refused > 80 and taken + refused == 400
    assert grown < MOST
