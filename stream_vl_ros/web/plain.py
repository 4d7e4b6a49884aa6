"""Messages of ROS as plain values, for JSON."""

from __future__ import annotations

from typing import Any

from stream_vl_ros.ros.messages import to_ns
from stream_vl_ros.web.scores import columns


def plain(message: Any) -> dict[str, Any]:
    """A message as plain values: stamps as nanoseconds, sequences as lists, the header left out."""
    out: dict[str, Any] = {}
    for name in message.get_fields_and_field_types():
        value = getattr(message, name)
        if name == "header":
            continue
        if hasattr(value, "nanosec"):
            out[name] = to_ns(value)
        elif isinstance(value, (str, bool, int, float)):
            out[name] = value
        else:
            out[name] = list(value)
    return out


def plain_watches(response: Any) -> dict[str, Any]:
    """The lists of a response of `~/watch`."""
    values = {name: list(getattr(response, name)) for name in columns()}
    values["stamps"] = [to_ns(stamp) for stamp in response.stamps]
    return values
