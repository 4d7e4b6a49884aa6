"""What to do when memory runs out: make room, try once more, then say so with the numbers."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import MemoryFullError

T = TypeVar("T")

# What PyTorch's CPU allocator says; it has no exception type of its own.
_CPU_ALLOCATOR = "DefaultCPUAllocator"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device's or the host's memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)


def with_room(action: Callable[[], T], make_room: Callable[[], object], numbers: Callable[[], str]) -> T:
    """The result of `action`; if memory runs out in it, once more after `make_room`.

    `action` must leave everything as it was when it fails.

    Raises:
        MemoryFullError: if memory ran out twice; with `numbers` and the allocator's own words.
    """
    for attempt in range(2):
        try:
            return action()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            said = str(error).strip().splitlines()
        # Outside of the handler: the exception held the frames of the failed attempt, and their tensors, alive.
        if attempt == 0:
            make_room()
            give_back()
    raise MemoryFullError(f"out of memory, {numbers()}; {said[0] if said else 'the allocator gave no reason'}")


def give_back() -> None:
    """Return memory that is not used to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def memory_use(device: torch.device) -> tuple[int, int]:
    """Bytes in use by all processes, and bytes altogether, of a GPU's memory or of the host's."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    available, total = (int(fields[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    return total - available, total


def device_memory(device: torch.device) -> str:
    """Free and total memory of the device in words."""
    used, total = memory_use(device)
    free, whole = (total - used) / MIB, total / MIB
    if device.type == "cuda":
        return f"{device} has {free:.0f} of {whole:.0f} MiB free"
    return f"the host has {free:.0f} of {whole:.0f} MiB available"
