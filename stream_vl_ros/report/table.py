"""`results.csv`: every point with all of its values."""

from __future__ import annotations

import csv
from pathlib import Path

from stream_vl_ros.report.results import Results

FILE = "results.csv"
COLUMNS = ("section", "series", "measure", "unit", "axis", "x", "median", "repeats", "values")


def write(results: Results, folder: Path) -> None:
    """A header and one line per point, into a folder that exists."""
    with (folder / FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(results.rows())
