"""Memory of a device: what is held, the peak, a cap, and what the allocator itself says."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import torch

from stream_vl_ros.engine.out_of_memory import give_back
from stream_vl_ros.engine.process_memory import occupied, status_bytes, trim
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import ConfigError

_ASKED = (
    re.compile(r"[Tt]ried to allocate ([\d.]+) ([KMG]iB|bytes)"),  # PyTorch, on a GPU and on the CPU
    re.compile(r"Unable to allocate ([\d.]+) ([KMG]iB|bytes)"),  # NumPy
)
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def asked_bytes(message: str) -> int | None:
    """What an allocator's own words say was asked of it; None where they do not say."""
    for pattern in _ASKED:
        if found := pattern.search(message):
            return round(float(found.group(1)) * _UNITS[found.group(2)])
    return None


class Gauge:
    """Reads one device.

    On a GPU it counts bytes of tensors. On the CPU nothing counts those, so it reads the resident memory of the process
    and lets the kernel keep the peak (proc_pid_clear_refs(5)).
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._cuda = device.type == "cuda"
        self._base = (self._reach(), self.held())

    @property
    def means(self) -> str:
        """What the numbers are, for people."""
        if self._cuda:
            return "memory of tensors on the GPU"
        return "resident memory of the process, in which a cache's spare room is not before something is written there"

    @property
    def counts(self) -> str:
        """What a cap counts, for people."""
        if self._cuda:
            return "what PyTorch's allocator holds on the GPU, blocks that lie spare included"
        return "the address space of the process"

    def held(self) -> int:
        """Bytes now."""
        if self._cuda:
            torch.cuda.synchronize(self.device)
            return torch.cuda.memory_allocated(self.device)
        return status_bytes("VmRSS")

    def peak(self) -> int:
        """The most bytes that were held at once since the last `reset`."""
        if self._cuda:
            return torch.cuda.max_memory_allocated(self.device)
        return status_bytes("VmHWM")

    def reset(self) -> int:
        """Give back what is free, begin to look for the peak anew, and return what is held."""
        give_back()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            trim()
            Path("/proc/self/clear_refs").write_text("5")
        self._base = (self._reach(), self.held())
        return self._base[1]

    def grown(self, cap: float = 0.0) -> int:
        """The most bytes that were taken at once beyond what was there at the last `reset`, as a cap counts them.

        A cap counts what the allocator keeps in reserve on a GPU, and the address space on the CPU. The kernel keeps no
        peak of that which can be reset; what was freed since counts as far as it was ever written to.

        Args:
            cap: MiB of the cap that held meanwhile, 0 for none. Pages that were in the address space before it may come
                back to memory under it; they are no more than it allowed.
        """
        reach, held = self._base
        if self._cuda:
            return torch.cuda.max_memory_reserved(self.device) - reach
        taken = max(self._reach() - reach, self.peak() - held)
        return min(taken, round(cap * MIB)) if cap else taken

    def _reach(self) -> int:
        """What a cap counts, now."""
        return torch.cuda.memory_reserved(self.device) if self._cuda else status_bytes("VmSize")

    def allocated(self) -> int:
        """What the allocator itself counts as handed out: the GPU's, or the C library's."""
        if self._cuda:
            return self.held()
        info = _mallinfo()
        return int(info.hblkhd + info.uordblks)

    @property
    def granularity(self) -> int:
        """Bytes by which the allocator may round one allocation up: PyTorch's blocks on a GPU, pages on the CPU."""
        return 2 * MIB if self._cuda else 2 * resource.getpagesize()

    @contextlib.contextmanager
    def cap(self, mib: float) -> Iterator[None]:
        """Let no more than this be allocated beyond what is held now; 0 for no cap.

        Allocations beyond it fail as they do on a device that is full. On the CPU it is the address space of the
        process (RLIMIT_AS) that may not grow further, and what the C library holds free is occupied. oneDNN is off
        meanwhile: it takes memory for code, and does not recover where there is none. So measure no times under a cap.

        Raises:
            ConfigError: for less than 0.
        """
        if mib < 0:
            raise ConfigError(f"cap of {mib:g} MiB: must be 0 (none) or more")
        if not mib:
            yield
        elif self._cuda:
            give_back()
            total = torch.cuda.get_device_properties(self.device).total_memory
            wanted = torch.cuda.memory_reserved(self.device) + mib * MIB
            torch.cuda.set_per_process_memory_fraction(min(1.0, wanted / total), self.device)
            try:
                yield
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0, self.device)
        else:
            give_back()
            trim()
            soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            held = status_bytes("VmSize")
            flags = torch.backends.mkldnn.set_flags(False)
            try:
                resource.setrlimit(resource.RLIMIT_AS, (held, hard))
                with occupied():
                    resource.setrlimit(resource.RLIMIT_AS, (held + round(mib * MIB), hard))
                    yield
            finally:
                torch.backends.mkldnn.set_flags(flags[0])
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
            "keepcost",
        )
    ]  # fmt: skip


def _mallinfo() -> _Mallinfo:
    read = ctypes.CDLL(None).mallinfo2
    read.restype = _Mallinfo
    info: _Mallinfo = read()
    return info
