"""An engine that is watched from outside, and faults in it at a chosen place."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from stream_vl_ros.engine import (
    EngineRunner,
    Question,
    RunnerStatus,
)
from stream_vl_ros.engine.cache import KVCache

SECOND = 1_000_000_000
CHUNK = 4

QUESTION = Question("What is visible now?")
RIGHT = "a red circle"
"""What the embedded model says about any of the first seconds of the demo's scene."""


class Engine:
    """An engine that is watched from outside."""

    def __init__(self, runner: EngineRunner, scene: np.ndarray) -> None:
        self.runner, self.scene = runner, scene
        self.shown, self.origin = 0, 0

    def show(self, frames: int = CHUNK) -> RunnerStatus:
        """The next frames of the scene; the status once each has its place."""
        for _ in range(frames):
            self.runner.push(self.scene[self.shown % len(self.scene)], self.origin + self.shown * SECOND // 2)
            self.shown += 1
        self.wait(lambda: not self.runner.status().frames.waiting)
        status = self.runner.status()
        assert status.frames.balanced
        return status

    def wait(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.runner.status()
            time.sleep(0.005)

    def ask(self, **settings: Any) -> str:
        return self.runner.ask(QUESTION, **settings).result(20).text

    def well(self) -> None:
        """Video goes on being taken, answers are right, and the accounts hold."""
        before = self.runner.status().frames.ingested
        assert self.show().frames.ingested == before + CHUNK
        assert self.ask() == RIGHT
        assert self.runner.alive
        questions = self.runner.status().questions
        assert questions.balanced and not questions.active


def full_caches() -> int:
    """Caches of this process that hold tokens: a stream has one, and so has each fork until it is closed."""
    gc.collect()
    # `type`, not `isinstance`: some objects answer for another class, and do work for it.
    caches = [thing for thing in gc.get_objects() if issubclass(type(thing), KVCache)]
    return sum(cache.length > 0 for cache in caches)


def forget_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    """pytest keeps what was logged, and with it all that an exception went through."""
    for record in caplog.records:
        record.exc_info = None


@dataclass
class Fault:
    """Something that is raised in the place of a function's work: the next `times` times."""

    error: BaseException
    times: int
    when: Callable[..., bool]
    raised: int = field(default=0)

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*args: Any, **kwargs: Any) -> Any:
            if self.raised < self.times and self.when(*args, **kwargs):
                self.raised += 1
                raise type(self.error)(*self.error.args)  # a new one: an old one holds what it went through
            return function(*args, **kwargs)

        return failing


@contextmanager
def fault(
    owner: Any, name: str, error: BaseException, times: int = 1, when: Callable[..., bool] = lambda *_, **__: True
) -> Iterator[Fault]:
    """Let a real function fail; everything around it is as it is."""
    it = Fault(error, times, when)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, it.wrap(getattr(owner, name)))
        yield it
