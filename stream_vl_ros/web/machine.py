"""Memory of this machine and of its GPUs."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

_PATIENCE = 5.0


async def memory() -> dict[str, Any]:
    """`{"host": [used, total], "gpus": [[name, used, total], ...]}` in bytes; what cannot be read is left out."""
    found: dict[str, Any] = {"gpus": await _gpus()}
    host = parse_meminfo(await asyncio.to_thread(_meminfo))
    if host is not None:
        found["host"] = list(host)
    return found


def _meminfo() -> str:
    try:
        return Path("/proc/meminfo").read_text()
    except OSError:
        return ""


def parse_meminfo(text: str) -> tuple[int, int] | None:
    """Used and total bytes from Linux's /proc/meminfo; None if it does not say."""
    kib = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdigit():
            kib[name] = int(number[0])
    if "MemTotal" not in kib or "MemAvailable" not in kib:
        return None
    return (kib["MemTotal"] - kib["MemAvailable"]) * 1024, kib["MemTotal"] * 1024


async def _gpus() -> list[list[Any]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--query-gpu=name,memory.used,memory.total",
            "--format=csv,noheader,nounits",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await asyncio.wait_for(process.communicate(), _PATIENCE)
    except (OSError, asyncio.TimeoutError):
        return []
    return parse_gpus(out.decode(errors="replace"))


def parse_gpus(text: str) -> list[list[Any]]:
    """Name, used and total bytes of each GPU from nvidia-smi's lines."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 2)]
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            gpus.append([parts[0], int(parts[1]) << 20, int(parts[2]) << 20])
    return gpus
