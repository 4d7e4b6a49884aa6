"""Every section that has points, as one figure of small panels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stream_vl_ros.errors import ReportError
from stream_vl_ros.report import panels, svg
from stream_vl_ros.report.colours import Look, looks
from stream_vl_ros.report.results import Results, Section
from stream_vl_ros.report.words import slugs, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "plots"
COLUMNS = 2
WIDTH, CURVE, BARS, LEGEND = 9.0, 2.75, 0.55, 0.4  # inches; BARS is for the axis and each bar adds BAR
BAR = 0.27


def write(results: Results, folder: Path) -> dict[str, str]:
    """Draw `plots/<section>.svg` for every section with points.

    Returns:
        The text of each SVG file by the name of its section.

    Raises:
        ReportError: if matplotlib is not installed.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    names = slugs(s.name for s in results.sections)
    drawn = dict(draw(results))
    for section, text in drawn.items():
        (folder / FOLDER / f"{names[section]}.svg").write_text(text, encoding="utf-8")
    return drawn


def draw(results: Results) -> Iterator[tuple[str, str]]:
    """The name of each section with points, and its figure as SVG; the same points give the same bytes."""
    try:
        import matplotlib
    except ImportError as error:
        raise ReportError("the plots of a report need matplotlib: pip install matplotlib") from error
    series = looks(p.series for s in results.sections for p in s.points)
    with matplotlib.rc_context(fname=None, rc=panels.STYLE):
        for section in results.sections:
            if section.points:
                file = io.StringIO()
                _figure(section, series).savefig(file, format="svg", metadata=dict.fromkeys(svg.METADATA))
                yield section.name, svg.tidy(file.getvalue(), visible(section.title))


def _figure(section: Section, series: dict[str, Look]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    measures = panels.order(section)
    flat = [m for m in measures if panels.is_bars(section, m)]
    rows = [*_rows(measures[: len(measures) - len(flat)]), *_rows(flat)]
    heights = [max(_height(section, m) for m in row) for row in rows]
    shown = list(dict.fromkeys(p.series for p in section.points))
    legend = len(shown) > 1 and len(flat) < len(measures)
    figure = Figure(figsize=(WIDTH, sum(heights) + legend * LEGEND), layout="constrained")
    grid = figure.add_gridspec(len(rows), COLUMNS, height_ratios=heights)
    for i, row in enumerate(rows):
        for j, measure in enumerate(row):
            axes = figure.add_subplot(grid[i, j])
            draw_panel = panels.bars if panels.is_bars(section, measure) else panels.curves
            draw_panel(axes, section, measure, series)
    if legend:
        handles = [
            Line2D([], [], color=series[s].colour, marker=series[s].marker, ls=series[s].line, label=visible(s))
            for s in shown
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(shown)), frameon=False)
    return figure


def _rows(measures: list[str]) -> list[list[str]]:
    return [measures[i : i + COLUMNS] for i in range(0, len(measures), COLUMNS)]


def _height(section: Section, measure: str) -> float:
    if not panels.is_bars(section, measure):
        return CURVE
    return BARS + BAR * len({p.series for p in section.of(measure)})
