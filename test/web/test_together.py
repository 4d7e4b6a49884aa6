"""`make web`: everything at once."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from web_rig import Rig

pytest.importorskip("uvicorn", reason="the web packages are not installed")

from stream_vl_ros.web.together import commands, parser


def run(rig: Rig, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stream_vl_ros.web.together", *arguments]
    return subprocess.Popen(command, env=rig.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_serves_a_page_and_ends_with_ctrl_c(rig: Rig, tmp_path: Path):
    together = run(rig, "--port", "0", "--model", "random", "-p", "image_topic:=/elsewhere", "--log-dir", str(tmp_path))
    assert together.stdout is not None
    lines = [together.stdout.readline().split(maxsplit=1) for _ in range(3)]
    assert [line[0] for line in lines] == ["model", "video", "page"]
    with urllib.request.urlopen(lines[2][1].strip(), timeout=10) as page:
        assert b"stream_vl live" in page.read()
    together.send_signal(signal.SIGINT)
    _, err = together.communicate(timeout=20)
    assert together.returncode == 0 and "Traceback" not in err


def test_what_one_of_them_says_when_it_dies(rig: Rig):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        _, err = (together := run(rig, "--port", str(taken.getsockname()[1]), "--model", "random")).communicate(
            timeout=60
        )
    assert together.returncode == 1
    assert "web: The page ended with code 1" in err and "set port to another one" in err


def test_a_camera_needs_no_recording():
    found = commands(parser().parse_args(["--topic", "/eyes", "-p", "target_fps:=4.0"]))
    assert set(found) == {"node", "page"}
    assert "image_topic:=/eyes" in found["node"] and "target_fps:=4.0" in found["node"]
    assert not any("budget" in word for word in found["node"])
    assert "eviction:=importance" in commands(parser().parse_args([]))["node"]
