"""What the kernel and the C library know of this process's memory (Linux)."""

from __future__ import annotations

import ctypes
from pathlib import Path


def status_bytes(field: str) -> int:
    """Bytes that /proc/self/status gives for a field such as ``"VmRSS"``, what is resident.

    Raises:
        KeyError: for a field that it does not have.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


def trim() -> None:
    """Have the C library return what was freed to the system, where it can.

    glibc keeps it in its arenas otherwise, which is tens of MiB of a small checkpoint's weights.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
