"""What this process holds (Linux)."""

from __future__ import annotations

import gc
from pathlib import Path

from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.process_memory import status_bytes
from stream_vl_ros.engine.units import MIB


def resident_mib() -> float:
    """Resident memory, MiB."""
    return status_bytes("VmRSS") / MIB


def own_mib() -> float:
    """Resident memory that is no file's, MiB: what a leak adds to."""
    return status_bytes("RssAnon") / MIB


def threads() -> int:
    """Threads, those of libraries included."""
    return len(list(Path("/proc/self/task").iterdir()))


def open_files() -> int:
    """File descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


def living_forks() -> int:
    """Forks of a stream that somebody still has, closed or not."""
    # `type`, not `isinstance`: some objects answer for another class, and do work for it.
    return sum(type(thing) is Fork for thing in gc.get_objects())
