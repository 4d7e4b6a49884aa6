"""One colour, marker and line per series, the same in all plots of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Okabe and Ito's colours, which people with any colour vision tell apart; see jfly.uni-koeln.de/color.
BLUE, ORANGE, GREEN, RED, PINK, SKY, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#808080"


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is drawn."""

    colour: str
    marker: str = "o"
    line: str = "-"


KNOWN = {
    "stream": Look(BLUE, "o"),
    "native": Look(ORANGE, "s"),
    "stream, last 64 frames": Look(GREEN, "D"),
    "full cache": Look(GREY, "s", "--"),
    "window": Look(RED, "^"),
    "importance": Look(BLUE, "o"),
    "idle": Look(BLUE, "o"),
    "4 questions": Look(RED, "^"),
    "reported": Look(PINK, "v"),
    "tensors": Look(ORANGE, "s", "--"),
    "allocator": Look(GREEN, "^", ":"),
}
OTHERS = (Look(GREEN, "D"), Look(PINK, "v"), Look(SKY, "P"), Look(RED, "^"), Look(GREY, "X"), Look(BLUE, "o"))


def looks(series: Iterable[str]) -> dict[str, Look]:
    """A look for each series; those without a fixed one take turns."""
    names = list(dict.fromkeys(series))
    turn = [n for n in names if n not in KNOWN]
    return {n: KNOWN[n] if n in KNOWN else OTHERS[turn.index(n) % len(OTHERS)] for n in names}
