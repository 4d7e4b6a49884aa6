"""Every measure of every section as a panel of its own, for wide and narrow windows alike."""

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
WIDTH, CURVE, BARS, LEGEND = 4.0, 2.6, 0.75, 0.2  # inches; BARS is for the axis and each bar adds BAR
BAR = 0.27
LETTERS, BEFORE = 57, 6  # that fit side by side in a legend; what is drawn before a name takes as much as so many

Drawn = dict[str, dict[str, str]]


def write(results: Results, folder: Path) -> Drawn:
    """Draw `plots/<section>/<measure>.svg`, the files that `files` names.

    Returns:
        The text of each SVG file, by the name of its section and its measure.

    Raises:
        ReportError: if matplotlib is not installed.
    """
    named = files(results)
    drawn: Drawn = {}
    for section, measure, text in draw(results):
        file = folder / named[section][measure]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        drawn.setdefault(section, {})[measure] = text
    return drawn


def files(results: Results) -> Drawn:
    """Every panel's file, relative to the folder of the report, in the order in which they are shown."""
    names = slugs(s.name for s in results.sections)
    return {
        s.name: {m: f"{FOLDER}/{names[s.name]}/{slug}.svg" for m, slug in slugs(panels.order(s)).items()}
        for s in results.sections
    }


def draw(results: Results) -> Iterator[tuple[str, str, str]]:
    """Section, measure and SVG of every panel; the same points give the same bytes."""
    try:
        import matplotlib
    except ImportError as error:
        raise ReportError("the plots of a report need matplotlib: pip install matplotlib") from error
    series = looks(p.series for s in results.sections for p in s.points)
    with matplotlib.rc_context(fname=None, rc=panels.STYLE):
        for section in results.sections:
            for measure in panels.order(section):
                file = io.StringIO()
                figure = _figure(section, measure, series)
                figure.savefig(file, format="svg", metadata=dict.fromkeys(svg.METADATA))
                yield section.name, measure, svg.tidy(file.getvalue(), about(section, measure))


def about(section: Section, measure: str) -> str:
    """What a panel shows, for those who cannot see it."""
    return visible(f"{section.title}: {measure}")


def _figure(section: Section, measure: str, series: dict[str, Look]) -> Figure:
    from matplotlib.figure import Figure

    shown = list(dict.fromkeys(p.series for p in section.of(measure)))
    if panels.is_bars(section, measure):
        figure = Figure(figsize=(WIDTH, BARS + BAR * len(shown)), layout="constrained")
        panels.bars(figure.add_subplot(), section, measure, series)
        return figure
    columns = _columns(shown)
    legend = len({p.series for p in section.points}) > 1
    figure = Figure(figsize=(WIDTH, CURVE + legend * LEGEND * -(-len(shown) // columns)), layout="constrained")
    if legend:
        _legend(figure, shown, series, columns)
    panels.curves(figure.add_subplot(), section, measure, series)
    return figure


def _legend(figure: Figure, shown: list[str], series: dict[str, Look], columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=series[s].colour, marker=series[s].marker, ls=series[s].line, label=visible(s))
        for s in shown
    ]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=8,
        handlelength=1.6,
        columnspacing=1.0,
    )


def _columns(shown: list[str]) -> int:
    """How many names of a legend fit side by side."""
    for columns in range(len(shown), 1, -1):
        rows = -(-len(shown) // columns)
        widest = [max(map(len, shown[i : i + rows])) for i in range(0, len(shown), rows)]
        if sum(widest) + BEFORE * len(widest) <= LETTERS:
            return len(widest)
    return 1
