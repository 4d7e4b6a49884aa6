"""All files of a report."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from stream_vl_ros.report import markdown, page, plots, table
from stream_vl_ros.report.earlier import runs
from stream_vl_ros.report.results import FILE, Results

FILES = (FILE, table.FILE, markdown.FILE, page.FILE)


def write(results: Results, folder: Path, earlier: Sequence[Path] = ()) -> plots.Drawn:
    """Write `results.json`, `results.csv`, `plots/`, `report.md` and `index.html`.

    The numbers come first, so that they are safe whatever happens to the rest.

    Args:
        folder: is made if there is none; files of these names in it are replaced.
        earlier: folders of other reports, for a list of links to them.

    Returns:
        The plots, as `plots.write` returns them.

    Raises:
        ReportError: if matplotlib is not installed.
    """
    _numbers(results, folder)
    drawn = plots.write(results, folder)
    _pages(results, folder, drawn, earlier)
    return drawn


def write_again(
    results: Results, folder: Path, drawn: plots.Drawn, written: Path, earlier: Sequence[Path] = ()
) -> None:
    """The same report in a second place, where it may have other links; nothing is drawn for it.

    Args:
        drawn, written: what `write` gave, and the folder that it wrote into.
    """
    _numbers(results, folder)
    if drawn:
        shutil.copytree(written / plots.FOLDER, folder / plots.FOLDER, dirs_exist_ok=True)
    _pages(results, folder, drawn, earlier)


def _numbers(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder)
    table.write(results, folder)


def _pages(results: Results, folder: Path, drawn: plots.Drawn, earlier: Sequence[Path]) -> None:
    before = runs(folder, earlier)
    (folder / markdown.FILE).write_text(markdown.markdown(results, before), encoding="utf-8")
    (folder / page.FILE).write_text(page.page(results, drawn, before), encoding="utf-8")
