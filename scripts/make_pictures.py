#!/usr/bin/env python3
"""Take the documentation's pictures of the live page: `python scripts/make_pictures.py [FOLDER]`.

Starts what `make web` starts, asks a few questions about the recording, and looks at the page with Chromium, which must
be installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 120_000  # milliseconds
WATCH = "Is there a blue square?"
# Seconds of the recording, a question, its choices.
QUESTIONS = (
    (3.5, "What is visible now?", ""),
    (6.0, "Which way does the red circle move?", "left, right, up, down"),
    (10.0, "How many objects are there?", ""),
    (18.0, "What appeared before the green triangle?", ""),
    (22.0, "Did the square change its colour?", ""),
)
# When the pictures are taken: in the second round, circle and square are there.
MOMENT = 24.25 + 11.0
BEGIN = datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
"""Header stamp of the recording's first image."""


def main(argv: Sequence[str] | None = None) -> int:
    """Take them all."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "pictures", help="where they go")
    folder = p.parse_args(argv).folder
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("make_pictures: chromium is not installed: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "stream_vl_ros.web.together", "--port", "0"]
    env = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as together:
        try:
            assert together.stdout is not None
            found = next(filter(None, (re.match(r"page\s+(\S+)", line) for line in together.stdout)), None)
            if found is None:
                sys.exit("make_pictures: the page was not served")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                take(browser, found[1], folder)
                browser.close()
        finally:
            together.send_signal(signal.SIGINT)
    return 0


def seconds(page: Any) -> float:
    """Of the recording, as the page shows it now."""
    title = page.get_attribute("#caption", "title") or ""
    if not title:
        return 0.0
    return (datetime.fromisoformat(title.removesuffix(" UTC")).replace(tzinfo=timezone.utc) - BEGIN).total_seconds()


def wait_until(page: Any, moment: float) -> None:
    """Until the recording has come so far."""
    while seconds(page) < moment:
        page.wait_for_timeout(50)


def take(browser: Any, address: str, folder: Path) -> None:
    """Fill the page, and take its pictures."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    page.set_default_timeout(LIMIT)
    page.goto(address)
    page.wait_for_selector("body[data-node=active]")
    page.click("#watch-more summary")
    page.fill("#watch-question", WATCH)
    page.fill("#watch-name", "blue_square")
    page.click("#watch-form button[type=submit]")
    page.click("#watch-more summary")
    for moment, question, choices in QUESTIONS:
        wait_until(page, moment)
        page.fill("#choices", choices)
        page.fill("#question", question)
        page.press("#question", "Enter")
        page.wait_for_selector(f".entry[data-state=done]:first-child .question:text-is('{question}')")
        page.wait_for_selector(".entry:first-child .thumb img")
    page.fill("#choices", "")
    wait_until(page, MOMENT)
    page.wait_for_selector(".watch.fires")
    page.locator("h1").click()
    page.screenshot(path=folder / "live-dark.png")
    page.click("#theme")
    page.locator("h1").click()
    page.screenshot(path=folder / "live-light.png")
    page.click(".entry:nth-child(2) .thumb")
    page.wait_for_timeout(500)
    page.screenshot(path=folder / "live-moment.png")
    page.keyboard.press("Escape")
    phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="light")
    phone.set_default_timeout(LIMIT)
    phone.goto(address)
    phone.wait_for_selector(".entry .thumb img")
    phone.wait_for_selector("#live[data-number]")
    phone.wait_for_timeout(1000)
    phone.screenshot(path=folder / "live-phone.png")


if __name__ == "__main__":
    sys.exit(main())
