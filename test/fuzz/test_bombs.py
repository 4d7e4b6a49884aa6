"""Decompression bombs: refused before memory is taken, in a process that may hardly take any."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bombs import bombs

# Of address space beyond what is mapped when everything is imported, and of seconds for each.
ROOM, SECONDS = 96 << 20, 5.0

CHILD = """
import json, resource, sys, time
sys.path.append(sys.argv[1])
from bombs import bombs
from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.pictures import picture_of
from stream_vl_ros.engine.process_memory import status_bytes

messages = bombs()
limit = status_bytes("VmSize") + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, (message, _) in messages.items():
    started = time.monotonic()
    try:
        picture_of(message, ImageOptions())
        reason = None
    except FrameError as error:
        reason = error.reason
        assert "MemoryError" not in str(error), (name, str(error))
    print(json.dumps([name, reason, time.monotonic() - started]), flush=True)
"""


def test_bombs_are_refused_before_memory_is_taken():
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(ROOM)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    told = {name: (reason, seconds) for name, reason, seconds in map(json.loads, child.stdout.splitlines())}
    expected = {name: reason for name, (_, reason) in bombs().items()}
    assert {name: reason for name, (reason, _) in told.items()} == expected
    assert max(seconds for _, seconds in told.values()) < SECONDS, told


def test_the_limit_would_be_felt():
    """The same process may not take the memory of an allowed picture of the largest size."""
    code = CHILD.split("for name")[0] + "import numpy; numpy.zeros((8192, 8192, 3), numpy.uint8)"
    child = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(ROOM)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "MemoryError" in child.stderr


@pytest.mark.parametrize("name", ["webp", "tiff", "bmp", "postscript", "gif that says jpeg"])
def test_pillow_is_not_asked_about_other_formats(name):
    """Not even imported are its readers of what no camera sends."""
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from types import SimpleNamespace\n"
        "from stream_vl_ros.errors import FrameError\n"
        "from stream_vl_ros.ros.compressed import compressed_to_rgb\n"
        "try: compressed_to_rgb(SimpleNamespace(format=sys.argv[2], data=bytes.fromhex(sys.argv[3])))\n"
        "except FrameError as error: print(error.reason)\n"
        "print(sorted(n for n in sys.modules if n.startswith('PIL.') and n.endswith('ImagePlugin')))\n"
    )
    message, reason = bombs()[name]
    child = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), message.format, message.data.hex()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told, plugins = child.stdout.splitlines()
    assert told == reason
    assert set(plugins.strip("[]").replace("'", "").split(", ")) <= {
        *("PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.TiffImagePlugin", "PIL.MpoImagePlugin"),
        *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.PpmImagePlugin"),
    }
