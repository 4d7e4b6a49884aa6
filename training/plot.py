"""Plot the loss of consecutive runs.

    python -m training.plot training/runs/1.jsonl training/runs/2.jsonl --out training/loss.png

Needs matplotlib, which nothing else here does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figure, axes = plt.subplots(figsize=(8, 4))
    offset = 0.0
    for number, path in enumerate(args.logs):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        minutes = [offset + r["s"] / 60 for r in rows]
        axes.plot(minutes, [r["loss"] for r in rows], color="C0", lw=1, label=None if number else "answers")
        axes.plot(
            minutes, [r["auxiliary"] for r in rows], color="C1", lw=1, label=None if number else "auxiliary heads"
        )
        axes.plot(
            minutes, [r["rate"] for r in rows], color="0.6", lw=1, label=None if number else "learning rate / peak"
        )
        offset = minutes[-1]
        if number + 1 < len(args.logs):
            axes.axvline(offset, color="0.85", lw=1)
    axes.set(yscale="log", xlabel="minutes of one H200", ylabel="cross entropy", ylim=(1e-3, None))
    axes.legend()
    figure.tight_layout()
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
