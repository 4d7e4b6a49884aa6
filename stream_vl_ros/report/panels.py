"""One panel of a figure: the curves or the bars of one measure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stream_vl_ros.report import labels
from stream_vl_ros.report.colours import Look
from stream_vl_ros.report.results import Point, Rung, Section
from stream_vl_ros.report.svg import BACKGROUND, INK, LINE
from stream_vl_ros.report.words import number, quantity, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From the smallest to the largest median: beyond this a linear axis hides the small ones.
LOG_Y = 30.0
LOG_X = 12.0
# From the largest median to the largest value: beyond this a band is cut off, as the medians' lines would lie flat.
FAR_OFF = 10.0
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stream_vl_ros",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": BACKGROUND,
    "figure.facecolor": BACKGROUND,
    "savefig.facecolor": BACKGROUND,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


def order(section: Section) -> list[str]:
    """Measures as they first come, those with a curve in front."""
    measures = dict.fromkeys(p.measure for p in section.points)
    return sorted(measures, key=lambda m: is_bars(section, m))


def is_bars(section: Section, measure: str) -> bool:
    """Whether there is only one place on the axis, so that a curve would be a dot."""
    return len({p.x for p in section.of(measure)}) == 1


def curves(axes: Axes, section: Section, measure: str, series: dict[str, Look]) -> None:
    """A line through the medians of each series, and a band from its least to its largest value."""
    points = section.of(measure)
    unit = points[0].unit or "number"
    last = max(p.x for p in points)
    notes: list[labels.Note] = []
    for i, name in enumerate(dict.fromkeys(p.series for p in points)):
        some, look = section.of(measure, name), series[name]
        x, y = [p.x for p in some], [p.median for p in some]
        low, high = [min(p.values) for p in some], [max(p.values) for p in some]
        # Lines on top of each other stay visible as the later ones are thinner.
        style: dict[str, Any] = {"color": look.colour, "ls": look.line, "lw": max(1.2, 2.6 - 0.5 * i)}
        if len(some) > 1:
            axes.fill_between(x, low, high, color=look.colour, alpha=0.2, lw=0)
        else:
            spread = [[y[0] - low[0]], [high[0] - y[0]]]
            axes.errorbar(x, y, spread, color=look.colour, capsize=3, lw=1)
            # A reference for the others, unless it only comes no further.
            if not any(r.side == name and not r.ran for r in section.rungs):
                axes.axhline(y[0], **{**style, "ls": "--", "lw": 1.2})
        axes.plot(x, y, marker=look.marker, **style)
        failed = [r for r in section.rungs if r.side == name and not r.ran]
        if failed and x[-1] < last:
            axes.plot(x[-1:], y[-1:], "X", color=look.colour, ms=9, mec=BACKGROUND, mew=0.8, zorder=4)
            notes.append((x[-1], y[-1], _end(section.axis, x[-1], failed)))
    _x_axis(axes, sorted({p.x for p in points}), section.axis)
    _y_axis(axes, points, unit)
    axes.set_title(visible(measure))
    axes.grid(lw=0.7)
    top = axes.get_ylim()[1]
    beyond = max(points, key=lambda p: max(p.values))
    if max(beyond.values) > top:
        notes.append((beyond.x, top, f"bands go on to {number(max(beyond.values))} {visible(beyond.unit)}"))
    labels.place(axes, notes)


def bars(axes: Axes, section: Section, measure: str, series: dict[str, Look]) -> None:
    """A bar of the median for each series, from zero, with its number and a whisker from least to largest."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    points = section.of(measure)
    least = 100.0 if points[0].unit == "%" else 1e-12
    widest = max([abs(v) for p in points for v in p.values] + [least])
    for i, p in enumerate(points):
        axes.barh(i, p.median, color=series[p.series].colour, height=0.62)
        low, high = min(p.values), max(p.values)
        if len(p.values) > 1:
            axes.errorbar(p.median, i, xerr=[[p.median - low], [high - p.median]], color=INK, capsize=3, lw=1)
        axes.annotate(
            f"{number(p.median)} {p.unit}".strip(), (high, i), (5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(points)), [visible(p.series) for p in points])
    axes.set_ylim(len(points) - 0.45, -0.55)
    axes.set_xlim(min(0.0, *(v for p in points for v in p.values), 0.0), 1.3 * widest)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(visible(quantity(measure, points[0].unit)))
    # Elsewhere than all others it stands for no place on the axis.
    if (
        points[0].x
        and any(p.x == points[0].x for p in section.points if p.measure != measure)
        and len({p.x for p in section.points}) > 1
    ):
        axes.set_xlabel(visible(f"at {number(points[0].x)} {section.axis}"), fontsize=8)
    axes.grid(axis="x", lw=0.7)


def _end(axis: str, x: float, failed: Sequence[Rung]) -> str:
    words = "out of memory"
    beyond = [r for r in failed if r.frames > x]
    if axis.split(",")[0].strip() == "frames" and beyond:
        first = min(beyond, key=lambda r: r.frames)
        words += f" at {number(first.frames)} frames"
        failed = [first]
    cap = re.search(r"with a cap of ([\d.e+]+) MiB", failed[0].words)
    return f"{words}\nwith a cap of {number(float(cap[1]))} MiB" if cap else words


def _x_axis(axes: Axes, places: Sequence[float], label: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if places[0] > 0 and places[-1] >= LOG_X * places[0] and len(places) > 2:
        axes.set_xscale("log", base=2)
        label += " (log scale)"
    if len(places) <= 8:
        axes.xaxis.set_major_locator(FixedLocator(list(places)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    axes.set_xlabel(visible(label))


def _y_axis(axes: Axes, points: Sequence[Point], unit: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    medians = [p.median for p in points]
    least, largest = min(medians), max(medians)
    if least > 0 and largest > LOG_Y * least and all(v > 0 for p in points for v in p.values):
        axes.set_yscale("log")
        if largest < 300 * least:
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        unit += ", log scale"
    elif unit == "%" and least >= 0 and largest <= 100:
        axes.set_ylim(0, 104)
    else:
        top = max(v for p in points for v in p.values)
        if 0 < FAR_OFF * largest < top:
            top = 2.0 * largest
        bottom = min(v for p in points for v in p.values)
        axes.set_ylim(1.1 * min(0.0, bottom), 1.12 * top if top > 0 else 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))
    axes.set_ylabel(visible(unit))


def _tick(value: float, _: object) -> str:
    return f"{float(f'{value:.6g}'):,.10g}"
