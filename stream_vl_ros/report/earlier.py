"""Earlier reports, to link to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.results import Results

# What is linked to.
PAGES = ("index.html", "report.md")


@dataclass(frozen=True, slots=True)
class Run:
    """One earlier report.

    Attributes:
        link: to its folder, relative to that of the new report, for a URL; without a slash at the end.
        readable: whether its results can be read and it has pages: there is something to link to.
    """

    name: str
    link: str
    date: str
    model: str
    hardware: str
    readable: bool = True


def runs(folder: Path, earlier: Sequence[Path]) -> list[Run]:
    """What there is to say about each; one that cannot be read is listed nevertheless."""
    return [_run(folder, path if path.is_dir() else path.parent) for path in earlier]


def _run(folder: Path, other: Path) -> Run:
    link = quote(Path(os.path.relpath(other, folder)).as_posix())
    name = other.resolve().name
    try:
        results = Results.load(other)
    except ReportError:
        return Run(name, link, "", "", "cannot be read", readable=False)
    e = results.environment
    hardware = str(e.get("device", ""))
    if not all((other / page).is_file() for page in PAGES):
        return Run(name, link, str(e.get("date", "")), results.model, f"{hardware}; it has no page", readable=False)
    return Run(name, link, str(e.get("date", "")), results.model, hardware)
