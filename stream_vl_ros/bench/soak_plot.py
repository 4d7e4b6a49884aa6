"""The curves of a soak."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

from stream_vl_ros.bench.endless_plot import smooth
from stream_vl_ros.bench.soak_records import Soak


def plot(path: Path, found: Soak, subtitle: str) -> None:
    """Resident memory twice, processor time per chunk, right answers, and what is alive, over hours of stream time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    samples = found.samples
    hours = [s.hours for s in samples]
    chunks = [math.nan if s.chunk_ms is None else s.chunk_ms for s in samples]
    usual = statistics.median(s.resident_mib for s in found.warm)
    rows = (
        (
            "resident memory,\nMiB",
            {
                "largest": [s.peak_mib for s in samples],
                "median": [s.resident_mib for s in samples],
                "at the end, no file's": [s.own_mib for s in samples],
            },
        ),
        ("of its median\nafter warm-up, %", {"resident memory": [100 * s.resident_mib / usual for s in samples]}),
        ("processor time\nper chunk, ms", {"": chunks}),
        (
            "right, %\n(mean of 10)",
            {
                "about the last seconds": smooth([100 * s.right / max(1, s.asked) for s in samples]),
                "standing questions": smooth([100 * s.standing_right / max(1, s.standing) for s in samples]),
            },
        ),
        (
            "alive",
            {name: [float(getattr(s, name)) for s in samples] for name in ("forks", "threads", "files")},
        ),
    )
    figure, panels = pyplot.subplots(len(rows), 1, figsize=(9, 10.5), sharex=True, constrained_layout=True)
    for axes, (label, curves) in zip(panels, rows, strict=True):
        for name, values in curves.items():
            axes.plot(hours, values, lw=1, label=name, marker=".", markersize=2)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if len(curves) > 1:
            axes.legend(loc="lower right", fontsize=8)
        axes.axvspan(0, found.warm[0].hours, color="0.93", zorder=0)
    panels[1].set_ylim(97, 103)
    panels[-1].set_xlabel("hours of stream time (shaded: warm-up)")
    figure.suptitle(subtitle, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
