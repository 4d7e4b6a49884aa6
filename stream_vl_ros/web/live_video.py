"""The cameras' newest pictures as JPEG: for the pages that look, and small ones as moments to remember.

Pictures are decoded and encoded on a thread of their own, once for all pages, and only those that somebody waits for or
that are due as a moment. The thread that receives images only puts the newest one into its slot.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.pictures import picture_of
from stream_vl_ros.throttle import ThrottledLog
from stream_vl_ros.web.moments import Moment, Moments

WIDTH, SMALL = 960, 320
"""Pixels that a live picture and a moment are wide at the most."""
_QUALITY = 80
# A recording that is replayed faster than its time does not make more moments than this.
_MOMENT_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Picture:
    """A live picture: `number` grows from picture to picture of a stream, `stamp` is in nanoseconds."""

    number: int
    stamp: int
    jpeg: bytes


@dataclass(slots=True)
class _Feed:
    """One camera. Under the lock of its `LiveVideo`."""

    moments: Moments
    message: Any = None
    stamp: int = 0
    number: int = 0  # of the message; 0 before the first
    picture: Picture | None = None
    wanted: bool = False
    pinned: bool = False
    tried: int = 0  # number of the message that a live picture was made of last, or could not be
    shown_at: float = 0.0
    moment_at: float = 0.0
    moment_of: int = 0  # number of the message that became a moment last

    def work(self, now: float, pause: float) -> tuple[bool, bool, float]:
        """Whether a live picture and a moment are to be made now, and in how many seconds one of them is otherwise."""
        live_in = moment_in = float("inf")
        if self.wanted and self.number > self.tried:
            live_in = self.shown_at + pause - now
        if self.number > self.moment_of and (self.pinned or self.moments.is_due(self.stamp)):
            moment_in = 0.0 if self.pinned else self.moment_at + _MOMENT_PAUSE - now
        return live_in <= 0, moment_in <= 0, max(0.0, min(live_in, moment_in))


class LiveVideo:
    """The feeds of all streams, by name. Safe for use from several threads."""

    def __init__(self, *, moments: int, fps: float, ready: Callable[[str], None]) -> None:
        """Start the thread.

        Args:
            moments: small pictures that are kept of each stream.
            fps: live pictures per second of a stream at the most.
            ready: called on that thread with the name of a stream that has a new picture for whoever waited.
        """
        self._limit, self._pause, self._ready = moments, 1 / fps, ready
        self._feeds: dict[str, _Feed] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._log = ThrottledLog(logging.getLogger(__name__))
        self._thread = threading.Thread(target=self._loop, name="live video", daemon=True)
        self._thread.start()

    def offer(self, stream: str, message: Any, stamp: int) -> None:
        """A new image, Image or CompressedImage; takes the place of one that nobody wanted. Returns at once."""
        with self._changed:
            feed = self._feeds.get(stream)
            if feed is None:
                # The first picture is for whoever may have waited for the stream itself.
                feed = self._feeds[stream] = _Feed(Moments(self._limit), wanted=True)
            feed.message, feed.stamp, feed.number = message, stamp, feed.number + 1
            if feed.wanted or feed.pinned or feed.moments.is_due(stamp):
                self._changed.notify()

    def picture(self, stream: str, after: int) -> Picture | None:
        """The newest picture if its number is above `after`; otherwise `ready` is called when there is one."""
        with self._changed:
            feed = self._feeds.get(stream)
            if feed is None:
                return None
            newest = feed.picture
            if newest is not None and newest.number > after and newest.number == feed.number:
                return newest
            if newest is not None and newest.number > after and feed.wanted:
                return newest  # somebody else waits for the next one; it is not made sooner for two
            feed.wanted = True
            self._changed.notify()
            return None

    def pin(self, stream: str) -> None:
        """Keep the newest picture as a moment, due or not."""
        with self._changed:
            if stream in self._feeds:
                self._feeds[stream].pinned = True
                self._changed.notify()

    def span(self, stream: str, first: int, last: int, count: int) -> list[Moment]:
        """Moments of a stream, see `Moments.span`."""
        with self._changed:
            feed = self._feeds.get(stream)
        return [] if feed is None else feed.moments.span(first, last, count)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(1.0)

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._closing and not (due := self._due()):
                    pass
                if self._closing:
                    return
                jobs = [
                    (name, feed, feed.message, feed.stamp, feed.number, live, moment)
                    for name, feed, live, moment in due
                ]
            for job in jobs:
                self._make(*job)

    def _due(self) -> list[tuple[str, _Feed, bool, bool]]:
        """What is to be made now; waits, with the lock released, if there is nothing."""
        now, pause = time.monotonic(), float("inf")
        due = []
        for name, feed in self._feeds.items():
            live, moment, seconds = feed.work(now, self._pause)
            if live or moment:
                due.append((name, feed, live, moment))
            pause = min(pause, seconds)
        if not due:
            self._changed.wait(None if pause == float("inf") else pause)
        return due

    def _make(self, name: str, feed: _Feed, message: Any, stamp: int, number: int, live: bool, moment: bool) -> None:
        jpeg = small = b""
        try:
            pixels = picture_of(message, _OPTIONS)
            if live:
                jpeg = encoded(pixels, WIDTH)
            if moment:
                small = encoded(pixels, SMALL)
        except FrameError as error:
            self._log.warning(name, f"a picture of {name or 'the camera'} cannot be shown: {error}")
        except Exception as error:
            # Whatever a decoder does with one picture, the next one may be shown again.
            reason = f"{type(error).__name__}: {error}"
            self._log.warning(name, f"a picture of {name or 'the camera'} cannot be shown: {reason}")
        now = time.monotonic()
        with self._changed:
            if live:
                feed.shown_at, feed.tried = now, number
            if moment:
                feed.moment_at, feed.moment_of, feed.pinned = now, number, False
            if small:
                feed.moments.add(Moment(stamp, small))
            if jpeg:
                feed.picture, feed.wanted = Picture(number, stamp, jpeg), False
        if jpeg:
            with contextlib.suppress(RuntimeError):  # the loop of the pages is closed already
                self._ready(name)


_OPTIONS = ImageOptions()


def encoded(pixels: np.ndarray, width: int) -> bytes:
    """A JPEG of a picture, uint8 (height, width, 3) in RGB, scaled down to `width` if it is wider."""
    picture = Image.fromarray(pixels)
    if picture.width > width:
        picture = picture.resize(
            (width, max(1, round(picture.height * width / picture.width))), Image.Resampling.BILINEAR
        )
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
