"""Which points of two reports differ."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stream_vl_ros.bench.compare_better import LOWER_MEASURES, LOWER_UNITS, Verdict, verdict
from stream_vl_ros.bench.compare_noise import Limits, difference
from stream_vl_ros.report.results import Point, Results

TOLERANCE = 1e-9
Key = tuple[str, str, str, float]
# One look each at rates that a search happens to try; what it finds is compared.
SEARCHED = LOWER_MEASURES
# Of what is measured. It repeats within a process, so that what counts as a change is not what its values say alone.
MEMORY = {"MiB"}


@dataclass(frozen=True, slots=True)
class Change:
    """One point that differs.

    Attributes:
        before, after: medians.
        change: relative; None where `before` is zero and the values are not timed.
        low, high: interval of the change of timings, if there is one.
    """

    section: str
    series: str
    measure: str
    unit: str
    x: float
    timed: bool
    before: float
    after: float
    change: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Points:
    """All points of two reports.

    Attributes:
        timed, exact: how many of each kind are in both.
        only_before, only_after: points of just one of them.
    """

    changes: list[Change]
    timed: int
    exact: int
    only_before: list[Key]
    only_after: list[Key]


def compare_points(before: Results, after: Results, limits: Limits, alike: bool = True) -> Points:
    """Points match by section, series, measure and place on the axis.

    Args:
        alike: whether times and memory of one are better or worse than those of the other, or only others.
    """
    a, b = _points(before), _points(after)
    both = [k for k in a if k in b]
    timed = sum(a[k].timed or b[k].timed for k in both)
    changes = [c for k in both if (c := _change(k[0], a[k], b[k], limits, alike)) is not None]
    return Points(changes, timed, len(both) - timed, [k for k in a if k not in b], [k for k in b if k not in a])


def _points(results: Results) -> dict[Key, Point]:
    found: dict[Key, Point] = {}
    for section in results.sections:
        for p in (p for p in section.points if p.measure not in SEARCHED):
            key = (section.name, p.series, p.measure, p.x)
            found[key] = replace(p, values=found[key].values + p.values) if key in found else p
    return found


def _change(section: str, a: Point, b: Point, limits: Limits, alike: bool) -> Change | None:
    before, after = a.median, b.median
    timed = (a.timed or b.timed) and a.unit == b.unit and all(map(math.isfinite, (*a.values, *b.values)))
    unit = a.unit if a.unit == b.unit else f"{a.unit or 'count'}, then {b.unit or 'count'}"
    change, low, high = None, None, None
    if timed:
        if unit in MEMORY:
            if abs(after - before) < limits.floor_mib:
                return None
            limits = replace(limits, least=limits.least_memory, least_single=limits.least_memory)
        found = difference(a.values, b.values, limits)
        if not found.beyond:
            return None
        change, low, high = found.change, found.low, found.high
    elif a.unit == b.unit and _same(a, b):
        return None
    elif before and a.unit == b.unit:
        change = (after - before) / abs(before)
    directed = a.unit == b.unit and (alike or not (a.timed or b.timed or unit in LOWER_UNITS))
    known = verdict(a.measure, unit, before, after) if directed else "changed"
    return Change(section, a.series, a.measure, unit, a.x, timed, before, after, change, low, high, known)


def _same(a: Point, b: Point) -> bool:
    pairs = zip(sorted(a.values), sorted(b.values), strict=False)
    return len(a.values) == len(b.values) and all(
        math.isclose(x, y, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(x) and math.isnan(y)) for x, y in pairs
    )
