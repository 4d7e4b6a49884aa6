"""Scenes of the toy world one after the other, painted by a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from stream_vl_ros.world.render import render
from stream_vl_ros.world.scene import Scene, sample_scene

SCENE_FRAMES = 64


def scene(seed: int, number: int, fps: float) -> tuple[Scene, np.ndarray]:
    """One scene of a stream of the toy world, and its pictures."""
    rng = random.Random(f"endless/{seed}/{number}")
    made = sample_scene(rng, SCENE_FRAMES, fps)
    return made, render(made, rng.randrange(2**31))


def scenes(seed: int, fps: float, count: int) -> Generator[tuple[Scene, np.ndarray], None, None]:
    """So many of them, drawn by a process of its own: its memory is not the engine's, whose growth is looked for."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_follow_parent) as painter:
        ahead = deque(painter.submit(scene, seed, i, fps) for i in range(min(2, count)))
        for number in range(count):
            if number + 2 < count:
                ahead.append(painter.submit(scene, seed, number + 2, fps))
            yield ahead.popleft().result()


def _follow_parent() -> None:
    """End when the process that measures does, however it ends. Ctrl-C is for that one alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(0)

    # A worker of a pool that nobody closes waits for work for ever.
    threading.Thread(target=follow, daemon=True).start()


def scene_count(hours: float, fps: float) -> int:
    """Scenes that fill `hours`, at least 2."""
    return max(2, round(hours * 3600 * fps / SCENE_FRAMES))
