"""Errors of the demo."""

from __future__ import annotations

from stream_vl_ros.errors import StreamVLError


class DemoError(StreamVLError):
    """The demo cannot go on; the message says why and, where there is one, ends with a process's last lines."""
