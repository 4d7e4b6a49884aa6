"""The node's own `run` in a process that is forked from one in which PyTorch is imported already.

Importing takes most of a node's start, and there are more than a hundred of them. Everything else is as it is with the
installed executable, which other tests start.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

PRELOADED = (
    "stream_vl_ros.ros.main",
    "stream_vl_ros.ros.session",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
)


def enter(arguments: Sequence[str], env: Mapping[str, str], log: str) -> None:
    """Become the node."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["stream_vl_node", *arguments]
    from stream_vl_ros.ros.main import run

    run()


class ForkedProcess:
    """As much of `subprocess.Popen` as the tests use."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], log: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self._process = context.Process(target=enter, args=(list(arguments), dict(env), log), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("stream_vl_node", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
