"""The process that paints the scenes of long benches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from stream_vl_ros.bench.painted import SCENE_FRAMES, scene, scene_count, scenes

PAINTING = """
import multiprocessing, time
from stream_vl_ros.bench.painted import scenes
if __name__ == "__main__":
    shown = scenes(1, 2.0, 10)
    next(shown)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


def test_scenes_are_those_that_are_painted_here():
    for number, (made, pictures) in enumerate(scenes(3, 2.0, 2)):
        expected, painted = scene(3, number, 2.0)
        assert made == expected and np.array_equal(pictures, painted)
        assert len(pictures) == SCENE_FRAMES


def test_how_many_fill_an_hour():
    assert scene_count(1.0, 2.0) == 7200 // SCENE_FRAMES
    assert scene_count(0.0, 2.0) == 2


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_the_painter_ends_with_who_asked_for_it(tmp_path, sent):
    program = tmp_path / "painting.py"
    program.write_text(PAINTING)
    measuring = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    painter = int(measuring.stdout.readline())
    measuring.send_signal(sent)
    assert measuring.wait(10) == -sent
    measuring.stdout.close()
    until = time.monotonic() + 20
    while running(painter):
        assert time.monotonic() < until, "it paints on"
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
