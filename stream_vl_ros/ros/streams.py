"""The streams of a node, and which of them a request means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from stream_vl_ros.errors import RequestError
from stream_vl_ros.ros.stream_parameters import ALL

T = TypeVar("T")


def selected(streams: Mapping[str, T], name: str) -> list[T]:
    """The streams that a request for `name` means: one of them, the only one (empty), or all.

    Raises `RequestError` for a name that is not known, and for none where it is needed.
    """
    if name == ALL or (not name and len(streams) == 1):
        return list(streams.values())
    if name in streams:
        return [streams[name]]
    if not name:
        raise RequestError(f"stream='': this node watches several cameras: name one of {_known(streams)}, or {ALL!r}")
    if list(streams) == [""]:
        raise RequestError(f"stream={name!r}: this node watches one camera only; leave the stream empty")
    raise RequestError(f"stream={name!r}: there is no such stream; there are {_known(streams)}, or {ALL!r}")


def _known(streams: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in streams)
