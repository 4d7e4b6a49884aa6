"""All files of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream_vl_ros.report import markdown, page, plots, table
from stream_vl_ros.report.earlier import runs
from stream_vl_ros.report.results import Results


def write(results: Results, folder: Path, earlier: Sequence[Path] = ()) -> None:
    """Write `results.json`, `results.csv`, `plots/`, `report.md` and `index.html`.

    The numbers come first, so that they are safe whatever happens to the rest.

    Args:
        folder: is made if there is none; files of these names in it are replaced.
        earlier: folders of other reports, for a list of links to them.

    Raises:
        ReportError: if matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results.save(folder)
    table.write(results, folder)
    drawn = plots.write(results, folder)
    before = runs(folder, earlier)
    (folder / markdown.FILE).write_text(markdown.markdown(results, before), encoding="utf-8")
    (folder / page.FILE).write_text(page.page(results, drawn, before), encoding="utf-8")
