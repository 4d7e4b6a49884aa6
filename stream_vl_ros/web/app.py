"""What the page asks the server for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, BeforeValidator, Field
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import ClientDisconnect

from stream_vl_ros.errors import WebError
from stream_vl_ros.web.access import Gate, Names, Password
from stream_vl_ros.web.desk import Desk, Inquiry
from stream_vl_ros.web.exports import to_csv, to_json
from stream_vl_ros.web.options import WebOptions
from stream_vl_ros.web.replays import Replays
from stream_vl_ros.web.viewers import Viewers

STATIC = Path(__file__).with_name("static")
_TEXT = 4000


def _clean(text: str) -> str:
    """As ROS can carry it, and JSON: no NUL, and no half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


Text = Annotated[str, BeforeValidator(lambda value: _clean(value) if isinstance(value, str) else value)]


class Node(Protocol):
    """What the routes need of the ROS side."""

    @property
    def own_name(self) -> str:
        """Full name of this process's node."""

    def watch(self, fields: dict[str, Any], done: Callable[[str], None]) -> None:
        """Send a request to `~/watch`; `done` is called with the reason if it was refused."""

    def publishers_of(self, topic: str) -> list[str]:
        """Names of the nodes that publish a topic."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes work with."""

    options: WebOptions
    desk: Desk
    viewers: Viewers
    replays: Replays
    node: Node


class Question(BaseModel):
    """A question, as in srv/Ask; `stream` "all" asks each camera."""

    question: Text = Field(max_length=_TEXT)
    stream: Text = Field("", max_length=64)
    choices: list[Text] = Field(default_factory=list, max_length=64)
    dialogue: Text = Field("", max_length=100)
    regex: Text = Field("", max_length=_TEXT)
    max_new_tokens: int = Field(0, ge=0, le=100_000)
    remember: bool = False


class NewWatch(BaseModel):
    """A standing question, as in srv/Watch."""

    name: Text = Field(max_length=64)
    question: Text = Field(max_length=_TEXT)
    stream: Text = Field("", max_length=64)
    options: list[Text] = Field(default_factory=list, max_length=64)
    fires_on: Text = Field("", max_length=_TEXT)
    threshold: float = Field(-1.0, le=1.0)
    hysteresis: float = Field(-1.0, le=1.0)
    min_interval: float = Field(0.0, ge=0.0, le=1e6)


class Guess(BaseModel):
    """A password."""

    password: Text = Field(max_length=1000)


def make_app(parts: Parts, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None) -> FastAPI:
    """The application; `lifespan` as Starlette has it."""
    # No pages of FastAPI's own: they load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    options = parts.options
    app.add_middleware(Gate, names=Names(options.host, options.hosts), password=bool(options.password))
    if options.password:
        app.add_middleware(
            SessionMiddleware,
            secret_key=secrets.token_hex(32),
            session_cookie=f"stream_vl_web_{options.port}",
            same_site="strict",
        )

    @app.exception_handler(WebError)
    async def refused(request: Request, error: WebError) -> Response:
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Without the values, which need not be such as JSON can hold.
        words = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors())
        return JSONResponse({"detail": _clean(words)}, 422)

    _pages(app, options)
    _questions(app, parts)
    _watches(app, parts)
    _recordings(app, parts)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await parts.viewers.serve(socket)

    return app


def _pages(app: FastAPI, options: WebOptions) -> None:
    password = Password(options.password)

    @app.get("/")
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/login")
    async def login_page() -> Response:
        return FileResponse(STATIC / "login.html", headers={"Cache-Control": "no-cache"})

    @app.post("/login", status_code=204)
    async def login(guess: Guess, request: Request) -> None:
        if not options.password:
            return
        if not await password.matches(guess.password):
            raise HTTPException(401, "That is not the password.")
        request.session["in"] = True

    @app.post("/logout", status_code=204)
    async def logout(request: Request) -> None:
        if options.password:
            request.session.clear()

    @app.get("/here", status_code=204)
    async def here() -> None:
        """Whether the server is there, and the page is logged in."""

    app.mount("/static", StaticFiles(directory=STATIC))


def _questions(app: FastAPI, parts: Parts) -> None:
    desk = parts.desk

    @app.post("/questions", status_code=201)
    async def ask(question: Question) -> dict[str, list[int]]:
        values = question.model_dump() | {"choices": tuple(question.choices)}
        return {"entries": [entry.id for entry in desk.ask(Inquiry(**values))]}

    @app.post("/entries/{number}/stop", status_code=204)
    async def stop(number: int) -> None:
        desk.stop(number)

    @app.get("/entries/{number}/frames/{index}.jpg")
    async def frame(number: int, index: int) -> Response:
        entry = desk.history.get(number)
        if entry is None or not 0 <= index < len(entry.moments):
            raise HTTPException(404, "There is no such picture.")
        return Response(entry.moments[index].jpeg, media_type="image/jpeg")

    @app.get("/history.json")
    async def as_json() -> Response:
        return _download(to_json(desk.history), "application/json", "history.json")

    @app.get("/history.csv")
    async def as_csv() -> Response:
        # The mark tells spreadsheets that it is UTF-8.
        return _download("\ufeff" + to_csv(desk.history), "text/csv; charset=utf-8", "history.csv")


def _watches(app: FastAPI, parts: Parts) -> None:
    async def call(**fields: Any) -> None:
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        parts.node.watch(fields, lambda reason: None if done.done() else done.set_result(reason))
        if reason := await done:
            raise WebError(reason)

    @app.post("/watches", status_code=201)
    async def add(watch: NewWatch) -> None:
        await call(command="add", **watch.model_dump())

    @app.delete("/watches/{name}", status_code=204)
    async def remove(name: str, stream: str = "") -> None:
        await call(command="remove", name=name, stream=stream)


def _recordings(app: FastAPI, parts: Parts) -> None:
    desk, replays, node = parts.desk, parts.replays, parts.node

    def others(topic: str) -> list[str]:
        return [name for name in node.publishers_of(topic) if name != node.own_name]

    @app.get("/recordings/check")
    async def check(name: str, size: int, stream: str = "") -> dict[str, Any]:
        """Whether it would be taken, and who publishes there already."""
        topic = desk.topic(stream)
        replays.check(stream, name, size)
        return {"topic": topic, "publishers": others(topic)}

    @app.put("/recordings", status_code=202)
    async def put(request: Request, name: str, stream: str = "", confirmed: bool = False) -> None:
        topic = desk.topic(stream)
        there = others(topic)
        if there and not confirmed:
            raise WebError(f"{' and '.join(there)} publishes on {topic} already; both would be seen mixed.")
        length = request.headers.get("content-length", "")
        try:
            await replays.take(stream, topic, name, int(length) if length.isdigit() else 0, _body(request))
        except ClientDisconnect as error:
            raise HTTPException(400, "The upload was interrupted.") from error

    @app.post("/recordings/stop", status_code=204)
    async def stop(stream: str = "") -> None:
        replays.stop(stream)


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        yield piece


def _download(text: str, kind: str, name: str) -> Response:
    return Response(text, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
