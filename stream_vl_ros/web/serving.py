"""Puts the page's parts together: ROS on a thread of its own, everything else on one asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import webbrowser
from collections.abc import AsyncIterator, Callable

import uvicorn
from fastapi import FastAPI
from rclpy.node import Node

from stream_vl_ros.errors import WebError
from stream_vl_ros.web.app import Parts, make_app
from stream_vl_ros.web.board import Board
from stream_vl_ros.web.desk import Desk
from stream_vl_ros.web.history import Entry, History
from stream_vl_ros.web.live_video import LiveVideo
from stream_vl_ros.web.options import WebOptions
from stream_vl_ros.web.replays import Replays, document
from stream_vl_ros.web.robot import Robot
from stream_vl_ros.web.store import Store
from stream_vl_ros.web.viewers import Viewers

_TICK = 0.5
# What a page sends is small; recordings do not come this way.
_MESSAGE_BYTES = 65536
_SHUTDOWN = 1


def listening(options: WebOptions) -> socket.socket:
    """A socket that listens where the options say.

    Raises:
        WebError: the address is taken, or none of this machine's.
    """
    try:
        return socket.create_server(
            (options.host, options.port), family=socket.AF_INET6 if ":" in options.host else socket.AF_INET
        )
    except OSError as error:
        raise WebError(
            f"cannot listen on {options.host} port {options.port}: {error.strerror or error}; set port to another one, "
            "or 0 for any that is free"
        ) from error


async def serve(options: WebOptions, node: Node, listener: socket.socket) -> None:
    """Serve until a signal ends it.

    Raises:
        WebError: the history cannot be kept where the options say.
    """
    loop = asyncio.get_running_loop()

    def deliver(call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(call)

    board = Board()
    store = Store(options.history_folder) if options.history_folder else None
    history = History(
        options.history_entries,
        changed=lambda entry: _changed(entry, desk, store),
        dropped=lambda entry: _dropped(entry, desk, store),
        entries=store.load(options.history_entries) if store else (),
    )
    video = LiveVideo(
        moments=options.moments, fps=options.live_fps, ready=lambda name: deliver(lambda: viewers.ready(name))
    )
    viewers = Viewers(board, video, options.max_clients)
    robot = Robot(node, options.node, deliver, video.offer)
    desk = Desk(board, history, robot, video, options.node)
    replays = Replays(options.max_upload_mib, lambda replay: board.put(f"replay/{replay.stream}", document(replay)))
    board.put("page", {"presets": list(options.presets), "password": bool(options.password)})

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        robot.start(desk)
        ticking = asyncio.create_task(_tick(desk))
        yield
        ticking.cancel()
        await replays.close()
        await asyncio.to_thread(robot.close)
        video.close()

    app = make_app(Parts(options, desk, viewers, replays, robot), lifespan)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            ws_max_size=_MESSAGE_BYTES,
            proxy_headers=False,
            # JPEG cannot be compressed further.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_SHUTDOWN,
        )
    )
    address = address_of(options, listener)
    node.get_logger().info(f"the live page is at {address}")
    if options.open_browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        loop.run_in_executor(None, webbrowser.open, address)
    await server.serve(sockets=[listener])


def address_of(options: WebOptions, listener: socket.socket) -> str:
    """Where a browser on this machine finds the page."""
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(options.host, options.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"


def _changed(entry: Entry, desk: Desk, store: Store | None) -> None:
    desk.show(entry)
    if store is not None:
        store.save(entry)


def _dropped(entry: Entry, desk: Desk, store: Store | None) -> None:
    desk.hide(entry)
    if store is not None:
        store.drop(entry)


async def _tick(desk: Desk) -> None:
    while True:
        desk.tick()
        await asyncio.sleep(_TICK)
