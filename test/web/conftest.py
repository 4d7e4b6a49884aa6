"""The live page in a real browser, with the real node in a process of its own, over DDS."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
from web_rig import LIMIT, ROOT, Rig


@pytest.fixture(scope="session")
def rig(web_domain_id: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    pytest.importorskip("stream_vl_ros.srv", reason="the package was not built: run `make build`")
    pytest.importorskip("uvicorn", reason="the web packages are not installed")
    env = {
        **os.environ,
        "ROS_DOMAIN_ID": str(web_domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    env.pop("STREAM_VL_WEB_PASSWORD", None)
    it = Rig(env, tmp_path_factory.mktemp("web"))
    yield it
    it.close()


@pytest.fixture
def open_page(browser: Any, rig: Rig) -> Iterator[Callable[..., Any]]:
    """`open_page()` is the page in a browser of its own; nothing may have gone wrong in it by the end."""
    problems: list[str] = []
    with contextlib.ExitStack() as stack:

        def opened(address: str = "", width: int = 1280, height: int = 900, **options: Any) -> Any:
            context = browser.new_context(viewport={"width": width, "height": height}, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(LIMIT * 1000)
            page.on("pageerror", lambda error: problems.append(f"error: {error}"))
            page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            page.on(
                "console",
                lambda m: problems.append(f"console: {m.text}") if "Content Security Policy" in m.text else None,
            )
            page.goto(address or rig.address)
            return page

        yield opened
    assert not problems


@pytest.fixture
def page(open_page: Callable[..., Any]) -> Any:
    """The page, with the node active and a picture there."""
    it = open_page()
    it.wait_for_selector("body[data-node=active]")
    it.wait_for_selector("#live[data-number]")
    return it
