"""Everything that differs between two reports, on the console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stream_vl_ros.bench.compare_noise import Limits
from stream_vl_ros.bench.compare_points import Change, Key, Points
from stream_vl_ros.bench.compare_rest import Difference
from stream_vl_ros.report.words import counted, number, quantity, visible

COLOURS = {"better": "green", "worse": "bold red", "changed": "yellow"}

# A smaller change does not show in the few digits that otherwise suffice.
NEAR = 0.005


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that differs between two reports.

    Attributes:
        unlike: what of the environment keeps times and memory from being better or worse.
    """

    environment: list[Difference]
    unlike: list[Difference]
    parts: list[Difference]
    points: Points
    answers: list[Difference]
    attempts: list[Difference]
    limits: Limits

    @property
    def worse(self) -> int:
        """How many things got worse."""
        others = (*self.parts, *self.answers, *self.attempts)
        verdicts = [c.verdict for c in self.points.changes] + [d.verdict for d in others]
        return verdicts.count("worse")


def show(console: Console, found: Comparison) -> None:
    """What to beware of first, then the tables, then the count."""
    _environment(console, found)
    _differences(console, "Parts", found.parts)
    _changes(console, "Times, rates and memory", [c for c in found.points.changes if c.timed])
    _changes(console, "Counts, sizes and accuracy", [c for c in found.points.changes if not c.timed])
    _differences(console, "Answers", found.answers)
    _differences(console, "Attempts", found.attempts)
    _alone(console, "Only in the first", found.points.only_before)
    _alone(console, "Only in the second", found.points.only_after)
    _count(console, found)


def _environment(console: Console, found: Comparison) -> None:
    if found.unlike:
        names = ", ".join(d.what for d in found.unlike)
        console.print(
            f"The reports differ in {names}: times and memory changed, and are neither better nor worse.",
            style="bold red",
            highlight=False,
        )
    elif found.environment:
        console.print("The reports were not made alike: what changed may be due to that.", style="yellow")
    _differences(console, "Made with", found.environment)


def _differences(console: Console, title: str, differences: Sequence[Difference]) -> None:
    if not differences:
        return
    table = Table("what", "where", "first", "second", "", title=title, title_justify="left")
    for d in differences:
        cells = [Text(visible(s)) for s in (d.what, d.where, d.before, d.after)]
        table.add_row(*cells, Text(d.verdict, COLOURS[d.verdict]))
    console.print(table)


def _changes(console: Console, title: str, changes: Sequence[Change]) -> None:
    if not changes:
        return
    table = Table("section", "measure", "series", title=title, title_justify="left")
    for head in ("at", "first", "second", "change", "interval"):
        table.add_column(head, justify="right")
    table.add_column("")
    for c in changes:
        names = [Text(visible(s)) for s in (c.section, quantity(c.measure, c.unit), c.series)]
        first, second = number(c.before), number(c.after)
        if c.change is not None and abs(c.change) < NEAR:
            first, second = (f"{value:.12g}" for value in (c.before, c.after))
        interval = "" if c.low is None or c.high is None else f"{c.low:+.1%} to {c.high:+.1%}"
        table.add_row(
            *names, number(c.x), first, second, _percent(c.change), interval, Text(c.verdict, COLOURS[c.verdict])
        )
    console.print(table)


def _percent(change: float | None) -> str:
    if change is None:
        return ""
    return f"{change:+.1%}" if abs(change) >= NEAR else f"{change:+.1e}"


def _alone(console: Console, title: str, keys: Sequence[Key]) -> None:
    if not keys:
        return
    places: dict[tuple[str, str, str], list[str]] = {}
    for *names, x in keys:
        places.setdefault((names[0], names[1], names[2]), []).append(number(x))
    table = Table("section", "series", "measure", "at", title=f"{title}, {len(keys)} points", title_justify="left")
    for line, xs in places.items():
        table.add_row(*(Text(visible(s)) for s in line), ", ".join(xs))
    console.print(table)


def _count(console: Console, found: Comparison) -> None:
    p, limits = found.points, found.limits
    timed = sum(c.timed for c in p.changes)
    exact = len(p.changes) - timed
    console.print(
        f"{timed} of {p.timed} times, rates and memory changed by {limits.least:.0%} or more with "
        f"{limits.confidence:.0%} confidence each ({limits.least_single:.0%} where values are few; memory by "
        f"{limits.least_memory:.0%} and {limits.floor_mib:g} MiB); {exact} of {p.exact} counts, sizes and accuracies "
        f"differ; {len(found.answers)} answers and {len(found.attempts)} attempts differ; "
        f"{counted(len(found.parts), 'parts')} stopped or started to work; {found.worse} got worse.",
        highlight=False,
    )
