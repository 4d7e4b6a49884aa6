"""Who gets in, without ROS: host names, origins, the password, sizes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the web packages are not installed")
pytest.importorskip("httpx2", reason="httpx2 is not installed")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from stream_vl_ros.web.access import Names, Password
from stream_vl_ros.web.app import Parts, make_app
from stream_vl_ros.web.board import Board
from stream_vl_ros.web.desk import Desk
from stream_vl_ros.web.history import History
from stream_vl_ros.web.live_video import LiveVideo
from stream_vl_ros.web.options import WebOptions
from stream_vl_ros.web.replays import Replays
from stream_vl_ros.web.viewers import Viewers

HERE = "http://127.0.0.1:8321"
OURS = {"Origin": HERE}


class Nobody:
    """A node that is not there."""

    own_name = "/stream_vl_web"

    def ask(self, number: int, fields: Mapping[str, Any]) -> None: ...

    def stop(self, number: int) -> None: ...

    def watch(self, fields: dict[str, Any], done: Callable[[str], None]) -> None:
        done("" if fields["name"] == "door" else "refused, because of its name")

    def publishers_of(self, topic: str) -> list[str]:
        return []


@pytest.fixture
def client_of() -> Callable[..., TestClient]:
    def make(base: str = HERE, node_side: Nobody | None = None, **options: Any) -> TestClient:
        video = LiveVideo(moments=10, fps=10.0, ready=lambda name: None)
        board = Board()
        nobody = node_side or Nobody()
        desk = Desk(board, History(10), nobody, video, "/stream_vl")
        replays = Replays(1, lambda replay: None)
        app = make_app(Parts(WebOptions(**options), desk, Viewers(board, video, 2), replays, nobody))
        return TestClient(app, base_url=base, follow_redirects=False)

    return make


def test_headers(client_of):
    answer = client_of().get("/")
    assert answer.status_code == 200 and "<title>stream_vl live</title>" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client_of().get("/static/main.js").headers["content-security-policy"] == policy


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py", "/entries/1/frames/0.jpg"]
)
def test_what_is_not_there(client_of, path):
    assert client_of().get(path).status_code == 404


def test_everything_comes_from_here():
    static = Path(__file__).parents[2] / "stream_vl_ros" / "web" / "static"
    for file in static.iterdir():
        words = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in words and "https://" not in words, file
        assert "innerHTML" not in words and "insertAdjacentHTML" not in words and "document.write" not in words, file
        if file.suffix == ".html":
            assert "<script>" not in words and " style=" not in words and " onclick=" not in words, file


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.7", "", "localhost@evil.example"]
)
def test_a_stranger_s_name_is_refused(client_of, host):
    assert client_of().get("/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost", "LOCALHOST:1", "[::1]:8321", "robot.lan:80"])
def test_known_names_are_served(client_of, host):
    assert client_of(hosts=("robot.lan",)).get("/", headers={"Host": host}).status_code == 200


def test_addresses_are_names_where_everybody_may_come():
    names = Names("0.0.0.0")
    assert names.allow("192.168.1.7:8321") and names.allow("[fe80::1]") and not names.allow("evil.example")
    assert not Names("127.0.0.1").allow("192.168.1.7")


@pytest.mark.parametrize(
    "origin", ["", "null", "http://evil.example", "http://127.0.0.1:9999", "http://127.0.0.1:8321.evil.example"]
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/questions"), ("DELETE", "/watches/door"), ("PUT", "/recordings?name=a.mp4")]
)
def test_what_changes_something_must_come_from_the_page(client_of, origin, method, path):
    headers = {"Origin": origin} if origin else {}
    assert client_of().request(method, path, headers=headers).status_code == 403


@pytest.mark.parametrize("origin", ["", "http://evil.example"])
def test_so_must_a_websocket(client_of, origin):
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client_of().websocket_connect("/live", headers={"Origin": origin}),
    ):
        pass
    assert refused.value.code == 1008


def test_a_websocket_of_the_page_gets_everything(client_of):
    with client_of().websocket_connect("/live", headers={**OURS, "Host": "127.0.0.1:8321"}) as socket:
        documents = socket.receive_json()["documents"]
    assert documents["node"]["state"] == "absent" and "ROS_DOMAIN_ID" in documents["node"]["sentence"]


def test_no_more_pages_than_allowed(client_of):
    client = client_of()
    headers = {**OURS, "Host": "127.0.0.1:8321"}
    with (
        client,
        client.websocket_connect("/live", headers=headers) as a,
        client.websocket_connect("/live", headers=headers) as b,
    ):
        a.receive_json(), b.receive_json()
        with client.websocket_connect("/live", headers=headers) as third, pytest.raises(WebSocketDisconnect) as refused:
            third.receive_json()
        assert refused.value.code == 1013


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"question": "What?"}, 409, "No node /stream_vl is to be seen yet"),
        ({"question": "  "}, 409, "The question is empty"),
        ({"question": "What?", "choices": ["yes"]}, 409, "give two at least"),
        ({"question": "What?", "choices": ["yes", "no"], "regex": "a"}, 409, "exclude each other"),
        ({"question": "x" * 5000}, 422, "4000"),
        ({"question": "What?", "max_new_tokens": -1}, 422, "greater than or equal"),
        ({}, 422, "required"),
    ],
)
def test_refusals_say_why(client_of, body, status, words):
    answer = client_of().post("/questions", json=body, headers=OURS)
    assert answer.status_code == status and words in answer.text


def test_text_that_ros_cannot_carry_becomes_text_that_it_can(client_of):
    asked = []

    class Taking(Nobody):
        def watch(self, fields, done):
            asked.append(fields)
            done("")

    headers = {**OURS, "Content-Type": "application/json"}
    body = r'{"name": "door", "question": "a\ud800b\u0000c", "options": ["\udfff", "no"]}'
    assert client_of(node_side=Taking()).post("/watches", content=body.encode(), headers=headers).status_code == 201
    assert asked[0]["question"] == "a?b\ufffdc" and asked[0]["options"] == ["?", "no"]
    # Values that JSON cannot hold are refused with words.
    body = r'{"name": "door", "question": "Open?", "threshold": NaN}'
    refused = client_of().post("/watches", content=body.encode(), headers=headers)
    assert refused.status_code == 422 and refused.json()["detail"].startswith("threshold: ")


def test_watches_that_the_node_refuses(client_of):
    client = client_of()
    watch = {"name": "door", "question": "Is it open?"}
    assert client.post("/watches", json=watch, headers=OURS).status_code == 201
    refused = client.post("/watches", json={**watch, "name": "other"}, headers=OURS)
    assert (refused.status_code, refused.json()["detail"]) == (409, "refused, because of its name")
    assert client.delete("/watches/door", headers=OURS).status_code == 204


def test_bodies_are_bounded(client_of):
    client = client_of(password="secret")
    assert client.post("/login", content=b"x" * 300_000, headers=OURS).status_code in (401, 413)
    assert client_of().post("/questions", content=b"x" * 300_000, headers=OURS).status_code == 413
    pieces = client_of().post("/login", content=iter([b"x" * 10]), headers=OURS)
    assert pieces.status_code == 413  # it does not say how long it is


class TestPassword:
    """With a password nothing is to be had without it."""

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/history.json"),
            ("GET", "/here"),
            ("POST", "/questions"),
            ("GET", "/static/main.js"),
            ("GET", "/entries/1/frames/0.jpg"),
            ("PUT", "/recordings?name=a.mp4"),
        ],
    )
    def test_nothing_without_it(self, client_of, method, path):
        assert client_of(password="secret").request(method, path, headers=OURS).status_code == 401

    def test_the_page_leads_to_the_login(self, client_of):
        answer = client_of(password="secret").get("/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        for path in ("/login", "/static/login.js", "/static/style.css"):
            assert client_of(password="secret").get(path).status_code == 200

    def test_no_websocket(self, client_of):
        headers = {**OURS, "Host": "127.0.0.1:8321"}
        with (
            pytest.raises(WebSocketDisconnect),
            client_of(password="secret").websocket_connect("/live", headers=headers),
        ):
            pass

    def test_logging_in_and_out(self, client_of):
        client = client_of(password="s\u00e9cret", host="0.0.0.0")
        assert client.post("/login", json={"password": "secret"}, headers=OURS).status_code == 401
        assert client.get("/here").status_code == 401
        right = client.post("/login", json={"password": "s\u00e9cret"}, headers=OURS)
        assert right.status_code == 204
        cookie = right.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/here").status_code == 204
        # The test client's websockets have another host, whose cookies are not ours.
        headers = {**OURS, "Host": "127.0.0.1:8321", "Cookie": right.headers["set-cookie"].split(";")[0]}
        with client.websocket_connect("/live", headers=headers) as socket:
            assert socket.receive_json()
        assert client.post("/logout", headers=OURS).status_code == 204
        assert client.get("/here").status_code == 401

    def test_a_cookie_of_one_s_own_making(self, client_of):
        client = client_of(password="secret")
        client.cookies.set("stream_vl_web_8321", "eyJpbiI6IHRydWV9.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb")
        assert client.get("/here").status_code == 401

    def test_wrong_ones_wait_for_each_other(self):
        async def guess() -> float:
            password = Password("secret", pause=0.05)
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await asyncio.gather(*(password.matches(g) for g in ("a", "b", "c"))) == [False] * 3
            assert await password.matches("secret")
            return loop.time() - began

        assert asyncio.run(guess()) > 0.14
