"""How long work took on a device that goes on by itself once it was told what to do."""

from __future__ import annotations

import time
from typing import Protocol

import torch


class Stopwatch(Protocol):
    """Runs from the moment that it is made."""

    def stop(self) -> None:
        """The work that is to be measured was handed over."""
        ...

    @property
    def done(self) -> bool:
        """Whether the work is done, so that `seconds` need not wait for it. Not before `stop`."""
        ...

    @property
    def seconds(self) -> float:
        """That the work took. Waits until it is done."""
        ...


class HostStopwatch:
    """For work that is done when the call that does it returns."""

    done = True

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = time.perf_counter()

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._started


class CudaStopwatch:
    """For work on a GPU's current stream: from when the GPU gets to it until it is done."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        # torch's own annotations leave these two out.
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._start.record(self._stream)

    def stop(self) -> None:
        self._end.record(self._stream)

    @property
    def done(self) -> bool:
        return bool(self._end.query())  # type: ignore[no-untyped-call]

    @property
    def seconds(self) -> float:
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end)) / 1e3


def stopwatch(device: torch.device) -> Stopwatch:
    """A running one for work on this device."""
    return CudaStopwatch(device) if device.type == "cuda" else HostStopwatch()
