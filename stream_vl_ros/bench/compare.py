"""What changed from one report to another, beyond noise.

How false alarms are bounded: a report has many timings, and of intervals at 95 % one in twenty would miss "no change"
by chance. Here each interval is at 99 %, which lets through about one timing in a hundred (two with only 5 values a
side), and the change must be at least `--least` besides, since two runs also differ by what no repetition within a
run shows, such as clock rates, and on a CPU what else the machine does: there the least is 20 percent unless it is
given. A correction for the whole family of timings would bound false alarms further, but would hide a slowdown the
better the more is measured; how many timings were compared stands beside what was found. Counts, sizes and accuracies
have no noise: any difference beyond 1e-9 is shown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from stream_vl_ros.bench.compare_noise import Limits
from stream_vl_ros.bench.compare_points import compare_points
from stream_vl_ros.bench.compare_rest import answers, attempts, environments
from stream_vl_ros.bench.compare_show import Comparison, show
from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.results import Results

# Percent. Reports of the same code, made one after the other on a CPU with shared cores, differ by up to 20.
ON_GPU, ON_CPU = 5.0, 20.0
# Of what goes to a file or a pipe, where rich would take 80 columns and break the tables' cells.
WIDTH = 140


def compare(before: Results, after: Results, limits: Limits) -> Comparison:
    """Everything that differs."""
    return Comparison(
        environments(before, after),
        compare_points(before, after, limits),
        answers(before, after),
        attempts(before, after),
        limits,
    )


def usual_least(*reports: Results) -> float:
    """Percent of change of timings that matters, by where they were measured."""
    # Reports from before `kind` was noted name the cores of a CPU.
    on_cpu = (r.environment.get("kind", "cpu" if "core" in str(r.environment.get("device")) else "") for r in reports)
    return ON_CPU if "cpu" in on_cpu else ON_GPU


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; with `--fail`, 1 if anything got worse; 2 if a report cannot be read."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        before, after = Results.load(args.before), Results.load(args.after)
        least = args.least if args.least is not None else usual_least(before, after)
        found = compare(before, after, Limits(least=least / 100, least_single=args.least_single / 100))
        if args.json is not None:
            _write(args.json, {"before": str(args.before), "after": str(args.after), **asdict(found)})
    except ReportError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    show(console, found)
    return int(args.fail and found.worse > 0)


def _write(path: Path, record: dict[str, object]) -> None:
    try:
        path.write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m stream_vl_ros.bench.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", type=Path, help="folder of a report, or its results.json")
    parser.add_argument("after", type=Path, help="the same of the report to compare with it")
    parser.add_argument(
        "--least", type=_percent, help=f"change of timings that matters, in percent ({ON_GPU:g}; on a CPU {ON_CPU:g})"
    )
    parser.add_argument(
        "--least-single", type=_percent, default=20.0, help="the same where there are too few values to know (20)"
    )
    parser.add_argument("--json", type=Path, help="write everything that differs to this file")
    parser.add_argument("--fail", action="store_true", help="exit status 1 if anything got worse")
    return parser


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of percent: give 0 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
