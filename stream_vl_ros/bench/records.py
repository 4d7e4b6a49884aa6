"""What every benchmark shares: on what it ran, a progress bar, and its results in a file."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stream_vl_ros.report.words import counted

# Of this file itself: colcon links to files, one by one.
PACKAGE = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "stream_vl_ros")


def environment(args: argparse.Namespace, device: str = "cpu") -> dict[str, Any]:
    """Hardware, versions, settings and command line of this run, ready for JSON; the commit, if it is a checkout."""
    kind = torch.device(device).type
    at = commit()
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": f"python -m {_module()} {shlex.join(sys.argv[1:])}".rstrip(),
        "settings": {k: _plain(v) for k, v in vars(args).items()},
        "kind": kind,
        "device": torch.cuda.get_device_name(device) if kind == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        **({"commit": at} if at else {}),
    }


def commit(package: Path = PACKAGE) -> str:
    """The commit that a package is checked out at, with `` and changes`` where files that git knows differ from it.

    Returns:
        ``""`` where it is not the package of a checkout, or there is no git to ask.
    """
    folder = package.resolve().parent
    # The repository that an environment happens to lie in is another one's.
    if not (folder / ".git").exists():
        return ""
    git = ["git", "-C", str(folder)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=20)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + (" and changes" if changed.stdout.strip() else "")


def print_environment(console: Console, record: dict[str, Any]) -> None:
    """Two lines above the results."""
    for line in environment_lines(record):
        console.print(line, highlight=False, markup=False)


def environment_lines(record: dict[str, Any]) -> tuple[str, str]:
    """The command, and on what it ran."""
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    return record["command"], f"{record['device']}, {counted(record['threads'], 'threads')}, {versions}"


def progress(console: Console) -> Progress:
    """A bar with what is done, how much of it, the time it took and the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def write_json(path: Path, record: dict[str, Any], results: dict[str, Any]) -> None:
    """The environment and the results, in one file."""
    path.write_text(json.dumps({"environment": record, "results": results}, indent=1) + "\n")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else [_plain(v) for v in value] if isinstance(value, list) else value


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec is not None else "stream_vl_ros.bench"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({len(os.sched_getaffinity(0))} cores)"


def _version(package: str) -> str:
    if package == "stream_vl_ros":
        from stream_vl_ros import __version__

        return __version__
    return version(package)
