"""A node whose callbacks fail when they are told to: `spoilt_node.py FOLDER --ros-args ...`.

While FOLDER holds a file of a callback's name, the callback raises; it does so once, and the file is gone. While it
holds `starve`, the executor is held up for most of the time. `engine` ends the engine's thread.
"""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path
from typing import Any

from stream_vl_ros.engine.watching import Watching
from stream_vl_ros.ros import asking, main, watching
from stream_vl_ros.ros.camera_stream import CameraStream
from stream_vl_ros.ros.debug_image import DebugImage
from stream_vl_ros.ros.diagnosing import Diagnosing
from stream_vl_ros.ros.node import StreamVLNode
from stream_vl_ros.ros.session import Session

PLACES = {
    "image": (Session, "push"),
    "status": (CameraStream, "publish_status"),
    "diagnostics": (Diagnosing, "publish"),
    "debug_image": (DebugImage, "image"),
    "response": (asking, "fill_response"),
    "answer": (asking, "answer_message"),
    "reset": (Session, "reset"),
    "snapshot": (Session, "keep"),
    "watch": (watching, "watch_from"),
    "engine": (Watching, "look"),
}
HELD = 0.3


def spoil(folder: Path) -> None:
    for name, (owner, attribute) in PLACES.items():
        setattr(owner, attribute, failing(folder / name, getattr(owner, attribute)))
    begin = StreamVLNode.__init__

    @functools.wraps(begin)
    def starved(self: StreamVLNode, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self.create_timer(0.1, lambda: (folder / "starve").exists() and time.sleep(HELD))

    StreamVLNode.__init__ = starved


def failing(order: Path, function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if order.exists():
            order.unlink()
            raise (SystemExit if order.name == "engine" else ValueError)(f"out of the blue, in {order.name}")
        return function(*args, **kwargs)

    return call


if __name__ == "__main__":
    spoil(Path(sys.argv.pop(1)))
    main.run()
