"""The curves of the eviction bench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream_vl_ros.bench.eviction_runs import FULL, Tally, Variant


def plot(
    path: Path, variants: Sequence[Variant], tallies: dict[str, Tally], ages: Sequence[float], subtitle: str
) -> None:
    """Left: accuracy by age for the budget nearest to one half. Right: by budget, about what a window forgot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.6), constrained_layout=True)
    budgets = sorted({v.share for v in variants if v.rule != "none"})
    half = min(budgets, key=lambda s: abs(s - 0.5))
    colours = {"none": "0.45", "window": "tab:orange", "importance": "tab:blue"}
    for v in variants:
        if v.rule == "none" or v.share == half:
            points = [(a, p) for a in ages if (p := tallies[v.name].percent(a)) is not None]
            left.plot(*zip(*points, strict=True), "o-", color=colours[v.rule], label=v.name)
    left.set_xlabel("age of what is asked about, seconds (lower border of a bin)")
    left.set_ylabel("right answers, %")
    left.set_title(f"By age, budget {half:.3g} of the full cache")
    for rule in dict.fromkeys(v.rule for v in variants if v.rule != "none"):
        some = sorted((v for v in variants if v.rule == rule), key=lambda v: v.share)
        right.plot([v.share for v in some], [tallies[v.name].percent() for v in some], "o-", color=colours[rule])
        old = [(v.share, p) for v in some if (p := tallies[v.name].percent_past(v.share)) is not None]
        right.plot(*zip(*old, strict=True), "s--", color=colours[rule])
        right.plot([], [], "o-", color=colours[rule], label=f"{rule}, all questions")
        right.plot([], [], "s--", color=colours[rule], label=f"{rule}, about what a window forgot")
    whole = tallies[FULL].percent()
    if whole is not None:
        right.axhline(whole, color=colours["none"], label=FULL)
    right.set_xlabel("budget, as a part of the full cache")
    right.set_title("By budget")
    for axes in (left, right):
        axes.set_ylim(0, 103)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left" if axes is left else "lower right", fontsize=8)
    figure.suptitle(subtitle, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
