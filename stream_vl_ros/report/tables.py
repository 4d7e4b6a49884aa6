"""The tables of a report, for the page and for Markdown alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_vl_ros.report.results import Results, Section
from stream_vl_ros.report.words import counted, median, number, quantity


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as plain text that nobody has escaped yet.

    Attributes:
        failed: rows that must stand out.
        names: how many columns at the left are text; the others are numbers.
    """

    head: list[str]
    rows: list[list[str]]
    failed: set[int] = field(default_factory=set)
    names: int = 2


def medians(section: Section) -> Table:
    """A row per measure and series, a column per place on the axis."""
    places = sorted({p.x for p in section.points})
    lines = list(dict.fromkeys((p.measure, p.unit, p.series) for p in section.points))
    measures = list(dict.fromkeys(p.measure for p in section.points))
    lines.sort(key=lambda line: measures.index(line[0]))
    cells = {(p.measure, p.unit, p.series, p.x): median(p) for p in section.points}
    head = ["measure", f"series \\ {section.axis}", *map(number, places)]
    rows = [[quantity(m, u), s, *(cells.get((m, u, s, x), "") for x in places)] for m, u, s in lines]
    return Table(head, rows)


def ladder(section: Section) -> Table:
    """Every attempt; those that failed stand out."""
    rows = [
        [r.about, r.side, str(r.stride), str(r.frames), "ran" if r.ran else "FAILED", r.words] for r in section.rungs
    ]
    failed = {i for i, r in enumerate(section.rungs) if not r.ran}
    return Table(["of", "side", "stride", "frames", "", "what was reached"], rows, failed, names=6)


# Of a model or of sections that have none.
UNKNOWN = "not measured here: answers are known to be right or wrong in the embedded model's toy world alone"


def facts(results: Results) -> list[tuple[str, str]]:
    """On what, with what and how the report was made; only what its environment says."""
    e = results.environment
    versions = ", ".join(f"{k} {v}" for k, v in e.get("versions", {}).items())
    on = f", {counted(e['threads'], 'threads')}" if "threads" in e else ""
    known = [
        ("model", results.model),
        ("hardware", f"{e['device']}{on}" if "device" in e else ""),
        ("versions", ", ".join(s for s in (versions, f"Python {e['python']}" if "python" in e else "") if s)),
        ("commit", str(e.get("commit", ""))),
        ("date", str(e.get("date", ""))),
        ("command", str(e.get("command", ""))),
        ("accuracy", "" if any(s.of("accuracy") for s in results.sections) else UNKNOWN),
    ]
    return [(name, value) for name, value in known if value]
