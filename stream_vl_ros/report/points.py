"""Runs as points of a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stream_vl_ros.engine.units import MIB
from stream_vl_ros.report.results import Point, Section
from stream_vl_ros.report.sides import Run

INGEST = (
    "Ingest is the time until all frames are in the context, through vision tower and language model: the chunks of a "
    "stream, which come while the video does; natively making the inputs and the first pass, once there is a question. "
    "Streaming is asked when no frame waits for its chunk to fill up; 'Chunk size' has what it costs when some do."
)


def points(
    series: str, x: float, runs: Sequence[Run], *, curve: bool = False, watched: Sequence[Run] | None = None
) -> list[Point]:
    """Every quantity of repeated runs at one place of an axis; on a curve without those that say the same again.

    `watched` are the runs to take the chunks and the peak from, where several asked about one stream.
    """
    streamed = bool(runs[0].chunks)
    watched = runs if watched is None else watched

    def times(measure: str, values: Sequence[float], unit: str = "ms") -> list[Point]:
        return [Point(series, measure, unit, x, tuple(values), timed=True)] if values else []

    def size(measure: str, values: Sequence[int]) -> list[Point]:
        return [Point(series, measure, "MiB", x, tuple(v / MIB for v in values), timed=True)]

    made = times("ingest", [r.ingest for r in watched])
    if not curve and not streamed:
        made += times("preparing inputs", [r.prepare for r in runs])
    made += times("chunk", [c for r in watched for c in r.chunks])
    made += times("first token", [r.first for r in runs])
    made += times("token", [t for r in runs for t in r.token])
    made += times("answer", [r.total for r in runs])
    made += size("peak memory", [r.peak - r.before for r in watched])
    if not curve:
        made += times("decode", [r.tokens_per_second for r in runs if r.tokens_per_second], "tokens/s")
        made += size("memory before", [r.before for r in runs])
        made += size("memory after", [r.after for r in runs])
    # Each question has tokens of its own.
    made.append(Point(series, "context", "tokens", x, tuple(sorted({float(r.context_tokens) for r in runs}))))
    if streamed:
        made.append(Point(series, "cache memory", "MiB", x, (runs[0].cache_bytes / MIB,)))
    known = [100.0 * r.right for r in runs if r.right is not None]
    if known:
        made.append(Point(series, "accuracy", "%", x, (sum(known) / len(known),)))
    return made


def merged(section: Section) -> Section:
    """Points of the same quantity at the same place, as one."""
    found: dict[tuple[str, str, str, float], Point] = {}
    for p in section.points:
        key = (p.series, p.measure, p.unit, p.x)
        values = (*found[key].values, *p.values) if key in found else p.values
        found[key] = Point(*key, values if p.timed or len(set(values)) > 1 else values[:1], p.timed)
    section.points = [
        replace(p, values=(sum(p.values) / len(p.values),)) if p.measure == "accuracy" else p for p in found.values()
    ]
    return section


def named(series: str, some: Sequence[Point]) -> list[Point]:
    """The same points under another series."""
    return [replace(p, series=series) for p in some]
