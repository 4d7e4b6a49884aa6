"""Who may see the page: names under which it is asked for, where requests come from, and the password."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What is needed to log in.
PUBLIC = frozenset(
    {"/login", *(f"/static/{name}" for name in ("style.css", "theme.js", "login.js", "dom.js", "icon.svg"))}
)
_READING = ("GET", "HEAD")
# The only one whose body may be large, and which bounds it itself.
_LARGE = "/recordings"
_BODY = 1 << 18
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # "no-referrer" would make browsers send `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Names:
    """The host names under which the page answers: others are a stranger's, whose DNS points here."""

    def __init__(self, host: str, more: Iterable[str] = ()) -> None:
        self._local = host in _LOOPBACK
        self._known = {*_LOOPBACK, host.lower(), *(name.lower() for name in more)}
        if not self._local:
            own = socket.gethostname().lower()
            self._known |= {own, f"{own}.local", socket.getfqdn().lower()}

    def allow(self, header: str) -> bool:
        """Whether a Host header, with or without a port, names this server."""
        try:
            name = urlsplit(f"//{header}").hostname
        except ValueError:
            return False
        if not name:
            return False
        if name in self._known:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address is no name, so nobody can have pointed it elsewhere.
        return address.is_loopback or not self._local


def same_origin(headers: Headers) -> bool:
    """Whether a request comes from this page. Browsers say where from whenever it could do harm."""
    origin, host = headers.get("origin", ""), headers.get("host", "")
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


class Gate:
    """ASGI middleware: lets nothing through that is not from this page, or not logged in where a password is set.

    With a password it must stand inside Starlette's `SessionMiddleware`.
    """

    def __init__(self, app: ASGIApp, *, names: Names, password: bool) -> None:
        self._app, self._names, self._password = app, names, password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        elif refusal[0] == 401 and scope["path"] == "/":
            await RedirectResponse("/login", 303)(scope, receive, _with_headers(send))
        else:
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        connection = HTTPConnection(scope)
        if not self._names.allow(connection.headers.get("host", "")):
            return 421, "This server does not answer under that name; add it to the parameter hosts."
        if (scope["type"] == "websocket" or scope["method"] not in _READING) and not same_origin(connection.headers):
            return 403, "The request does not come from this page."
        if self._password and scope["path"] not in PUBLIC and not connection.session.get("in"):
            return 401, "Log in first."
        if scope["type"] == "http" and scope["path"] != _LARGE and not _is_small(connection.headers):
            return 413, f"A request like this has {_BODY} bytes at the most, and says how many."
        return None


def _is_small(headers: Headers) -> bool:
    length = headers.get("content-length", "0")
    return "transfer-encoding" not in headers and length.isdigit() and int(length) <= _BODY


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending


class Password:
    """Compares in constant time, one guess after the other, and lets wrong ones wait."""

    def __init__(self, password: str, pause: float = 0.5) -> None:
        self._password, self._pause = password.encode(), pause
        self._lock = asyncio.Lock()

    async def matches(self, guess: str) -> bool:
        """Whether it is the password."""
        async with self._lock:
            right = hmac.compare_digest(guess.encode(), self._password)
            if not right:
                await asyncio.sleep(self._pause)
        return right
