"""What came out, in sentences with numbers."""

from __future__ import annotations

from stream_vl_ros.report.points import merged
from stream_vl_ros.report.results import Point, Section
from stream_vl_ros.report.words import counted

_FAR = 1.2


def pairs_in_words(section: Section, dtype: str) -> str:
    """How many answers are the same on both sides."""
    judged = [s for s in section.said if s.identical is not None]
    same = sum(bool(s.identical) for s in judged)
    said = f"Tokens are identical in {same} of {len(judged)} pairs of answers."
    if same == len(judged) or dtype == "float32":
        return said
    return (
        f"{said} In {dtype} each side's kernels round in their own way, and where two tokens score alike the answers "
        "part; docs/exactness.md compares both sides in float32."
    )


def speed_in_words(section: Section) -> list[str]:
    """Times of both sides at each place of the axis."""
    whole = merged(section)
    said = []
    for measure in ("first token", "token"):
        for x in sorted({p.x for p in whole.of(measure)}):
            ours, theirs = whole.at(measure, "stream", x), whole.at(measure, "native", x)
            if ours and theirs:
                said.append(
                    f"{x:g} frames, {measure}: {_ranged(ours)} streaming, {_ranged(theirs)} native "
                    f"({theirs.median / ours.median:.1f} times as long)."
                )
    return said


def _ranged(point: Point) -> str:
    """The median, and from where to where the values go if that is far."""
    low, high = min(point.values), max(point.values)
    return f"{point.median:.2f} ms" + (f" ({low:.2f} to {high:.2f})" if high > _FAR * low else "")


def first_in_words(section: Section, x: float) -> str:
    """Time to the first token at one place."""
    some = [(series, section.at("first token", series, x)) for series in ("stream", "native")]
    return "first token " + ", ".join(f"{series} {point.median:.1f} ms" for series, point in some if point)


def growth_in_words(section: Section) -> list[str]:
    """From the first place of the axis to the last."""
    said = []
    for series in ("stream", "native"):
        some = section.of("first token", series)
        if len(some) > 1:
            said.append(
                f"First token, {series}: {some[0].median:.1f} ms at {counted(some[0].x, section.axis)}, "
                f"{some[-1].median:.1f} ms at {some[-1].x:g}."
            )
    ours, theirs = ({p.x: p.median for p in section.of("accuracy", s)} for s in ("stream", "native"))
    both = sorted(ours.keys() & theirs.keys())
    if both:
        a, b = (sum(some[x] for x in both) / len(both) for some in (ours, theirs))
        said.append(f"Accuracy over the {len(both)} places that both reached: {a:.1f} % streaming, {b:.1f} % native.")
    return said


def sums_in_words(section: Section) -> list[str]:
    """What a video costs on both sides, at the last place that both reached."""
    both = {p.x for p in section.of("ingest", "stream")} & {p.x for p in section.of("ingest", "native")}
    if not both:
        return []
    x = max(both)
    said = [
        f"{measure}: {' and '.join(f'{p.median:,.1f} {p.unit} {side}' for p, side in some)}"
        for measure in ("ingest", "peak memory")
        if len(some := [(p, s) for s in ("stream", "native") if (p := section.at(measure, s, x))]) > 1
    ]
    return [f"At {counted(x, section.axis)}, {', '.join(said)}."]


def same_in_words(section: Section, what: str) -> list[str]:
    """How much accuracy depends on the axis."""
    some = [p.median for p in section.of("accuracy", "stream")]
    if not some:
        return []
    spread = max(some) - min(some)
    return [
        f"Accuracy moves by {spread:.1f} points over every {what}."
        if spread
        else f"Accuracy is the same at every {what}."
    ]
