"""How long work took, on a host; on a GPU see test_gpu.py."""

from __future__ import annotations

import time

import torch

from stream_vl_ros.engine.stopwatch import stopwatch


def test_work_on_the_host_is_done_when_it_returns() -> None:
    watch = stopwatch(torch.device("cpu"))
    started = time.perf_counter()
    time.sleep(0.05)
    watch.stop()
    outside = time.perf_counter() - started
    time.sleep(0.01)
    assert watch.done
    assert 0.05 <= watch.seconds <= outside + 0.01
    assert watch.seconds == watch.seconds, "it does not go on"
