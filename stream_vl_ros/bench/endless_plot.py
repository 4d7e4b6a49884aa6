"""The curves of the endless bench."""

from __future__ import annotations

from pathlib import Path

from stream_vl_ros.bench.endless_run import Endless


def plot(path: Path, found: Endless, subtitle: str) -> None:
    """Processor time per chunk, resident memory and accuracy over hours of stream time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    hours = [s.hours for s in found.samples]
    figure, rows = pyplot.subplots(3, 1, figsize=(9, 7.5), sharex=True, constrained_layout=True)
    curves = (
        ("processor time per chunk, ms", [s.busy_ms for s in found.samples]),
        ("resident memory, MiB", [s.resident_mib for s in found.samples]),
        ("right answers, %", smooth([100 * s.right / max(1, s.asked) for s in found.samples])),
    )
    for axes, (label, values) in zip(rows, curves, strict=True):
        axes.plot(hours, values, lw=1)
        axes.set_ylabel(label)
        axes.set_ylim(0, max(values) * 1.1)
        axes.grid(alpha=0.3)
    rows[-1].set_xlabel("hours of stream time")
    figure.suptitle(subtitle, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def smooth(values: list[float], width: int = 10) -> list[float]:
    """Means of so many values up to each."""
    return [sum(some) / len(some) for i in range(len(values)) if (some := values[max(0, i - width + 1) : i + 1])]
