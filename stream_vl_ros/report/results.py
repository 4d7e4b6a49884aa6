"""What a report is made of, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stream_vl_ros.errors import ReportError

FILE = "results.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity at one place of a section's axis, with everything that was measured of it.

    Attributes:
        series: whose it is, such as ``"stream"`` or ``"native"``; a line in a plot.
        measure: which quantity, such as ``"first token"``.
        unit: of the values, such as ``"ms"``, ``"MiB"``, ``"%"``; ``""`` for plain counts.
        x: where on the axis of the section.
        values: every repetition; counts and sizes, which do not vary, have one.
        timed: whether the values are times or rates, which vary from run to run.
    """

    series: str
    measure: str
    unit: str
    x: float
    values: tuple[float, ...]
    timed: bool = False

    @property
    def median(self) -> float:
        return float(np.median(self.values))


@dataclass(frozen=True, slots=True)
class Said:
    """Both answers to one question, side by side.

    Attributes:
        about: which frames, such as ``"vtest.avi, 32 frames, stride 1"``.
        native: None where the native side ran out of memory.
        identical: whether all tokens are equal; None where there is nothing to compare.
        stream_ids, native_ids: the tokens, so that it can be checked where they make no text; empty in reports from
            before they were kept.
    """

    about: str
    question: str
    stream: str
    native: str | None
    identical: bool | None
    stream_ids: tuple[int, ...] = ()
    native_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rung:
    """One attempt of a side at one frame stride.

    Attributes:
        about: which frames.
        frames: how many are left at this stride.
        ran: whether it came to an answer.
        words: what was reached, or the error with what was allocated and asked.
    """

    about: str
    side: str
    stride: int
    frames: int
    ran: bool
    words: str


@dataclass(slots=True)
class Section:
    """One question of the report.

    Attributes:
        name: short and stable, such as ``"length"``; comparisons match sections by it.
        title: for people.
        axis: what `x` of the points is, with its unit.
        text: how it was measured, in a sentence or two.
        findings: what came out, in sentences with numbers.
        failed: whether it ended in an error, which is its finding; reports from before this was kept do not say so.
    """

    name: str
    title: str
    axis: str
    text: str
    findings: list[str] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    rungs: list[Rung] = field(default_factory=list)
    failed: bool = False

    def of(self, measure: str, series: str | None = None) -> list[Point]:
        """Points of a measure, in the order of the axis."""
        some = [p for p in self.points if p.measure == measure and series in (None, p.series)]
        return sorted(some, key=lambda p: p.x)

    def at(self, measure: str, series: str, x: float) -> Point | None:
        return next((p for p in self.of(measure, series) if p.x == x), None)


@dataclass(slots=True)
class Results:
    """A whole report.

    Attributes:
        environment: as `bench.records.environment` gives it: hardware, versions, command, settings.
        model: its name.
        log: what the console showed, line by line.
    """

    environment: dict[str, Any]
    model: str
    sections: list[Section] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def section(self, name: str) -> Section:
        """The one of that name, or `ReportError`."""
        for section in self.sections:
            if section.name == name:
                return section
        raise ReportError(f"the report has no section {name!r}: it was made with other --sections")

    def rows(self) -> Iterator[dict[str, object]]:
        """Every point as one flat row, the raw values included; what the CSV holds."""
        for section in self.sections:
            for p in section.points:
                yield {
                    "section": section.name,
                    "series": p.series,
                    "measure": p.measure,
                    "unit": p.unit,
                    "axis": section.axis,
                    "x": p.x,
                    "median": p.median,
                    "repeats": len(p.values),
                    "values": " ".join(f"{v:.9g}" for v in p.values),
                }

    def save(self, folder: Path) -> None:
        """Write `results.json` into a folder that exists."""
        record = {"version": VERSION, **asdict(self)}
        (folder / FILE).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Read what `save` wrote.

        Args:
            path: the folder, or the file in it.

        Raises:
            ReportError: if there is none, or it is something else.
        """
        path = Path(path)
        file = path / FILE if path.is_dir() else path
        try:
            record = json.loads(file.read_text())
            if record["version"] != VERSION:
                raise ReportError(f"{file} is of version {record['version']!r}, not {VERSION}: make the report again")
            sections = [
                Section(
                    s["name"],
                    s["title"],
                    s["axis"],
                    s["text"],
                    s["findings"],
                    [Point(**{**p, "values": tuple(p["values"])}) for p in s["points"]],
                    [_said(a) for a in s["said"]],
                    [Rung(**r) for r in s["rungs"]],
                    bool(s.get("failed", False)),
                )
                for s in record["sections"]
            ]
            return cls(record["environment"], record["model"], sections, record["log"])
        except OSError as error:
            raise ReportError(f"{file} cannot be read: {error.strerror}; is {path} the folder of a report?") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ReportError(f"{file} is not the results of a report: {error!r}") from error


def _said(record: dict[str, Any]) -> Said:
    ids = {name: tuple(record.get(name, ())) for name in ("stream_ids", "native_ids")}
    return Said(**{**record, **ids})
