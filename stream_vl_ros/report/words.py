"""Numbers, names and foreign text, as every part of a report writes them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

from stream_vl_ros.report.results import Point, Said

RANGES = (
    "Lines and bars are medians; bands, whiskers and brackets go from the least to the largest of several repetitions."
)
OUT_OF_MEMORY = "native out of memory"


def counted(count: float, what: str) -> str:
    """A number with its noun, such as "1 question" or "2 frames per second": the first word takes the s away."""
    if count == 1:
        first, *rest = what.split(" ", 1)
        what = " ".join([first.removesuffix("s"), *rest])
    return f"{count:g} {what}"


def under_cap(cap: float) -> str:
    """What both sides were given, behind what became of them; empty without a cap."""
    return f" with {cap:g} MiB for either side beyond what is held" if cap else ""


def number(value: float) -> str:
    """At least three digits, all of a whole number; `results.csv` has the rest."""
    if not math.isfinite(value):
        return str(value)
    if value == round(value):
        return f"{value:,.0f}"
    if value == float(f"{value:.4g}") and abs(value) >= 1e-4:
        return f"{value:,.4g}"
    digits = max(int(abs(value) < 1e4), 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 9)}f}"


def median(point: Point) -> str:
    """The median, and from where to where the values go if there are several."""
    if len(point.values) == 1:
        return number(point.median)
    return f"{number(point.median)} ({number(min(point.values))} to {number(max(point.values))})"


def quantity(measure: str, unit: str) -> str:
    return f"{measure}, {unit}" if unit and unit not in measure.split() else measure


def mark(said: Said) -> str:
    """Whether two answers agree, in a word or three."""
    if said.native is None:
        return OUT_OF_MEMORY
    if said.identical is None:
        return "not compared"
    return "identical" if said.identical else "different"


def answer(text: str, ids: Sequence[int]) -> str:
    """An answer; its tokens where they make no text that could be seen."""
    if text.strip() or not ids:
        return text
    return f"(no text; tokens {' '.join(map(str, ids))})"


def visible(text: str) -> str:
    """The text with an escape for everything that would be invisible, reorder its surroundings, or be no Unicode."""
    text = text.replace("\r\n", "\n")
    return "".join(c if c == "\n" or c.isprintable() else _escape(c) for c in text)


def slugs(names: Iterable[str]) -> dict[str, str]:
    """A name of its own for each, that can be a file and a part of a link."""
    found: dict[str, str] = {}
    for name in names:
        slug = stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "section"
        again = 2
        while slug in found.values():
            slug, again = f"{stem}-{again}", again + 1
        found[name] = slug
    return found


def _escape(c: str) -> str:
    if c == "\t" or unicodedata.category(c) == "Zs":
        return " "
    return c.encode("unicode_escape").decode()
