"""Which way each quantity of a report is better."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["better", "worse", "changed"]

HIGHER_MEASURES = {"accuracy", "answers", "decode", "highest rate", "lowest rate that failed"}
HIGHER_UNITS = {"%"}
LOWER_MEASURES = {"backlog at the end", "growth of the backlog", "lost"}
LOWER_UNITS = {"s", "ms", "us", "µs", "ns", "bytes", "B", "KiB", "MiB", "GiB", "MB", "GB"}


def verdict(measure: str, unit: str, before: float, after: float) -> Verdict:
    """Better or worse where the direction is known, or else only that it changed.

    The measure decides before the unit does.
    """
    if measure in HIGHER_MEASURES:
        higher = True
    elif measure in LOWER_MEASURES:
        higher = False
    elif unit in HIGHER_UNITS or unit in LOWER_UNITS:
        higher = unit in HIGHER_UNITS
    else:
        return "changed"
    if not (before < after or after < before):  # medians that are equal, or one that is no number
        return "changed"
    return "better" if (after > before) == higher else "worse"
