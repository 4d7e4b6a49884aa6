"""What the kernel and the C library know of a process's memory (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

# Smallest block of free memory that is occupied, in bytes: smaller ones are left to the interpreter.
_SMALLEST = 2**18
_LARGEST = 2**30


def status_bytes(field: str, process: int | str = "self") -> int:
    """Bytes that /proc/PROCESS/status gives for a field such as ``"VmRSS"``, what is resident.

    Raises:
        KeyError: for a field that it does not have.
    """
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


def trim() -> None:
    """Have the C library return what was freed to the system, where it can.

    glibc keeps it in its arenas otherwise, which is tens of MiB of a small checkpoint's weights.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


@contextlib.contextmanager
def occupied() -> Iterator[None]:
    """Hold all memory that the C library can hand out, so that others get new memory; not a byte of it is written.

    For a process whose address space may not grow now (RLIMIT_AS): otherwise there would be no end to it.
    """
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    blocks: list[int] = []
    size = _LARGEST
    try:
        while size >= _SMALLEST:
            block = libc.malloc(size)
            if block:
                blocks.append(block)
            else:
                size //= 2
        yield
    finally:
        for block in blocks:
            libc.free(block)
