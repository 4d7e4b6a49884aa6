"""The page's process from outside: what it refuses to start as, a client that reads nothing, the password."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from web_rig import Rig, until

websockets = pytest.importorskip("websockets.sync.client", reason="the web packages are not installed")
ConnectionClosed = pytest.importorskip("websockets.exceptions").ConnectionClosed


def connect(rig: Rig) -> Any:
    return websockets.connect(rig.address.replace("http", "ws") + "/live", origin=rig.address, max_size=None)


def resident(pid: int) -> int:
    """MiB that a process holds in memory."""
    kib = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert kib is not None
    return int(kib[1]) >> 10


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        ({"host": "0.0.0.0"}, 2, "an address other than 127.0.0.1 needs a password: set STREAM_VL_WEB_PASSWORD"),
        ({"live_fps": "fast"}, 2, "parameter live_fps='fast': must be a number"),
        ({"port": "TAKEN"}, 1, "set port to another one"),
        ({"history_folder": "/proc/none"}, 1, "cannot be written to"),
    ],
)
def test_what_cannot_work_is_one_clear_error(rig: Rig, parameters, code, words):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {k: str(v).replace("TAKEN", str(taken.getsockname()[1])) for k, v in parameters.items()}
        web = rig.start_web(**values)
        assert web.process.wait(30) == code, web.log
    assert words in web.log and "Traceback" not in web.log


def test_without_a_node_it_says_so_and_ends_at_once(rig: Rig):
    web = rig.start_web(node="/nobody")
    with websockets.connect(web.address().replace("http", "ws") + "/live", origin=web.address()) as client:
        documents = json.loads(client.recv())["documents"]
        assert documents["node"]["state"] == "absent" and "/nobody" in documents["node"]["sentence"]
        code, seconds = web.end()
    assert code == 0 and seconds < 2.0, (seconds, web.log)
    assert "Traceback" not in web.log


def test_one_that_asks_and_never_reads_harms_nobody(rig: Rig):
    with connect(rig) as good:
        latest: dict[str, Any] = {}

        def read() -> None:
            try:
                while True:
                    message = good.recv()
                    if isinstance(message, str):
                        latest.update(json.loads(message)["documents"])
            except ConnectionClosed:
                return

        threading.Thread(target=read, daemon=True).start()
        until(lambda: latest.get("node", {}).get("state") == "active" and "stream/" in latest, "the node is active")
        before, memory = latest["stream/"], resident(rig.web.process.pid)
        address = rig.address.removeprefix("http://").split(":")
        bad = [raw_websocket(address[0], int(address[1])) for _ in range(4)]
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < 5:
            for one in bad:
                one.sendall(masked(json.dumps({"next": "", "after": sent}).encode()))
                sent += 1
            time.sleep(0.002)
        assert sent > 1000
        # The recording runs at twice its speed: 4 of its frames a second are kept, 5 seconds long.
        until(lambda: latest["stream/"]["frames_ingested"] >= before["frames_ingested"] + 16, "frames are taken", 5)
        assert latest["stream/"]["frames_dropped"] == before["frames_dropped"]
        assert resident(rig.web.process.pid) - memory < 30
        for one in bad:
            one.close()


def raw_websocket(host: str, port: int) -> socket.socket:
    """A websocket whose receive buffer is small, and which nobody reads."""
    it = socket.socket()
    it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    it.connect((host, port))
    lines = (
        *("GET /live HTTP/1.1", f"Host: {host}:{port}", f"Origin: http://{host}:{port}", "Upgrade: websocket"),
        *("Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""),
    )
    it.sendall("\r\n".join(lines).encode())
    assert b"101" in it.recv(15)
    return it


def masked(data: bytes) -> bytes:
    """A text frame of a client, with a mask of zeros."""
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


def test_login(rig: Rig, open_page, tmp_path: Path):
    (tmp_path / "password").write_text("open sesame\n")
    web = rig.start_web(password_file=tmp_path / "password", host="0.0.0.0")
    page = open_page(web.address())
    assert page.url.endswith("/login")
    page.fill("#password", "open barley")
    page.keyboard.press("Enter")
    until(lambda: page.locator("#login-error").text_content() == "That is not the password.", "it is refused")
    page.fill("#password", "open sesame")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-node=active]")
    page.wait_for_selector("#live[data-number]")
    page.click("#logout")
    page.wait_for_selector("#password")
    page.goto(web.address())
    assert page.url.endswith("/login")
    assert web.end()[0] == 0
