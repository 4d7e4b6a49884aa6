"""What tests of several folders share: real footage, a browser, and private ROS domains."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from stream_vl_ros.bench import footage as recordings

# Small models on few cores: threads that wait for each other cost more than they bring. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with SIGINT ignored, and the processes of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine says nothing of the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

_LOG_LINES = 30

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Domains above 101 use ports that Linux gives to outgoing connections.
_DOMAINS = range(20, 100)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what talks over DDS, and as `alone` what counts memory; `make test` runs those few at a time, or one by one.

    Those that count go first: under a cap, what earlier tests have freed is there besides.
    """
    for item in items:
        if {"ros_domain_id", "web_domain_id"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("talks")
        if item.get_closest_marker("counts"):
            item.add_marker("alone")
    items.sort(key=lambda item: item.get_closest_marker("counts") is None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A test that failed shows how the logs of its processes end."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when != "call" or not report.failed:
        return
    known = getattr(item, "funcargs", {})
    for folder in (known.get("tmp_path"), getattr(known.get("rig"), "folder", None)):
        for log in sorted(folder.glob("*.log")) if folder else ():
            ending = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            report.sections.append((log.name, "\n".join(ending)))


@pytest.fixture(scope="session")
def footage() -> Callable[[str], Path]:
    """`footage("vtest")` is the path of a real video; skips the test where that one is not installed."""

    def find(name: str) -> Path:
        path = recordings.find(name)
        if path is None:
            pytest.skip(f"footage {name!r} is not installed: {recordings.SOURCES[name]}")
        return path

    return find


# No longer than a module: while it lasts, its event loop runs in this thread, and others could not.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if _CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        it = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield it
        it.close()


@contextlib.contextmanager
def _domain() -> Iterator[int]:
    """A ROS domain that nobody else on this machine uses at the same time."""
    begin = os.getpid() % len(_DOMAINS)
    for domain in (*_DOMAINS[begin:], *_DOMAINS[:begin]):
        with (Path(tempfile.gettempdir()) / f"stream_vl_ros_domain_{domain}.{os.getuid()}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield domain
            return
    pytest.fail("every ROS domain is taken by another test run")


@pytest.fixture(scope="session")
def ros_domain_id() -> Iterator[int]:
    """A ROS domain that no other test run on this machine uses at the same time."""
    with _domain() as domain:
        yield domain


@pytest.fixture(scope="session")
def web_domain_id() -> Iterator[int]:
    """Another one: the live page's node and recording go on from test to test, and must not be seen by others."""
    with _domain() as domain:
        yield domain


@pytest.fixture
def private_domain_id() -> Iterator[int]:
    """One of a single test, which may leave processes behind that others take for alive."""
    with _domain() as domain:
        yield domain


@pytest.fixture
def ros_env(ros_domain_id: int) -> dict[str, str]:
    """Environment for child processes: the test run's own domain, this machine only, large images allowed."""
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(ros_domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA",
        "PYTHONUNBUFFERED": "1",
    }
