"""Whoever ends leaves the graph: others must not wait for its services until its lease of 20 s is over."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest


@pytest.fixture
def graph(robot):
    """`graph(process)` is the number of services that are there some seconds after the process ended.

    Not the names of nodes: the middleware keeps one for good if it hears of it only when its process is gone.
    """

    def now() -> int:
        names = ("stream_vl", "stream_vl_web", "replay")
        return sum(robot.node.count_services(f"/{n}/get_parameters") for n in names)

    def left(process) -> int:
        end = time.monotonic() + 60
        while process.poll() is None:
            assert time.monotonic() < end, "it ends"
            robot.spin_for(0.05)
        robot.spin_for(2.0)  # it may not even have been found before it ended
        end = time.monotonic() + 6
        while now() and time.monotonic() < end:
            robot.spin_for(0.1)
        return now()

    return left


@pytest.mark.parametrize(
    "parameters",
    [
        {"target_fps": "fast"},
        {"target_fps": -1.0},
        {"watches": "['d']", "watch.d.question": "Open?", "watch.d.threshold": 7.0},
    ],
    ids=["type", "value", "watch"],
)
def test_a_node_that_is_refused(start_node, graph, parameters):
    node = start_node(ready=False, **parameters)
    assert graph(node.process) == 0
    assert node.process.wait() == 2, node.log


def test_a_node_that_is_interrupted(start_node, robot, graph):
    node = start_node()
    robot.spin_until(lambda: robot.node.count_services("/stream_vl/get_parameters"), 10, "it is in the graph")
    assert node.stop() == 0
    assert graph(node.process) == 0


HASTY = """
import os, signal, sys, time
{imports}
def interrupted(*args, _made={maker}, **kwargs):
    made = _made(*args, **kwargs)
    os.kill(os.getpid(), signal.{sent})
    time.sleep(0.2)
    return made
{maker} = interrupted
from stream_vl_ros.{kind}.main import run
run()
"""


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    ("kind", "imports", "maker"),
    [
        ("ros", "from stream_vl_ros.ros import node", "node.ParameterDesk"),
        ("web", "import rclpy", "rclpy.create_node"),
    ],
    ids=["node", "page"],
)
def test_ctrl_c_while_it_is_being_made(ros_env, graph, kind, imports, maker, sent):
    """As if it came in the middle of the constructor."""
    program = HASTY.format(kind=kind, imports=imports, maker=maker, sent=sent)
    process = subprocess.Popen([sys.executable, "-c", program], env=ros_env, stderr=subprocess.PIPE, text=True)
    assert graph(process) == 0
    assert (process.returncode, process.communicate()[1]) == (0, "")


@pytest.mark.parametrize("wrong", ["parameter", "type", "port"])
def test_a_page_that_is_refused(ros_env, graph, wrong):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        setting = {"parameter": "max_clients:=0", "type": "port:=high", "port": f"port:={taken.getsockname()[1]}"}
        command = [sys.executable, "-m", "stream_vl_ros.web.main", "--ros-args", "-p", setting[wrong]]
        page = subprocess.Popen(command, env=ros_env, stderr=subprocess.PIPE, text=True)
        assert graph(page) == 0
        said = page.communicate()[1]
        assert (page.returncode, "FATAL" in said) == (1 if wrong == "port" else 2, True), said


def test_a_replay(demo_bag, ros_env, graph):
    command = [sys.executable, "-m", "stream_vl_ros.bag.replay", str(demo_bag), "--rate", "20"]
    replay = subprocess.Popen(command, env=ros_env)
    assert graph(replay) == 0
    assert replay.returncode == 0
