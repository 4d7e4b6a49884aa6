"""What changed from one report to another, beyond noise.

How false alarms are bounded: a report has many timings, and of intervals at 95 % one in twenty would miss "no change"
by chance. Here each interval is at 99 %, which lets through about one timing in a hundred (two with only 5 values a
side), and the change must be at least `--least` besides, since two runs also differ by what no repetition within a
run shows, such as clock rates, and on a CPU what else the machine does: there the least is 20 percent unless it is
given. Memory repeats within a process: on a GPU, where it is the bytes of tensors, 1 percent and 2 MiB are a change, on
a CPU, where it is what the process holds, 20 percent and 4 MiB. A correction for the whole family of timings would
bound false alarms further, but would hide a slowdown the better the more is measured; how many timings were compared
stands beside what was found. Counts, sizes and accuracies have no noise: any difference beyond 1e-9 is shown. A part
that failed, or that a report ended before, is worse than one that ran.

Where device, threads, model, dtype, or the settings shape, size or tokens differ, times, memory and attempts under a
cap have changed, and are neither better nor worse. So `--fail` refuses such reports rather than pass or fail them:
make both alike, as a check of every commit does on machines of one kind, or add `--across` to judge what remains.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from stream_vl_ros.bench.compare_noise import Limits
from stream_vl_ros.bench.compare_points import compare_points
from stream_vl_ros.bench.compare_rest import Difference, answers, attempts, environments, parts, unlike
from stream_vl_ros.bench.compare_show import Comparison, show
from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.results import FILE, Results

# Reports of the same code, made one after the other on a CPU with shared cores, differ by up to 20 percent; memory of a
# process by what allocators and threads keep or do not keep. On a GPU it is PyTorch's bytes, in blocks of 2 MiB.
ON_GPU = Limits(least=0.05, least_memory=0.01, floor_mib=2.0)
ON_CPU = Limits(least=0.2, least_memory=0.2, floor_mib=4.0)
# Of what goes to a file or a pipe, where rich would take 80 columns and break the tables' cells.
WIDTH = 140


def compare(before: Results, after: Results, limits: Limits) -> Comparison:
    """Everything that differs."""
    others = unlike(before, after)
    alike = not others
    return Comparison(
        environments(before, after),
        others,
        parts(before, after),
        compare_points(before, after, limits, alike),
        answers(before, after),
        attempts(before, after, alike),
        limits,
    )


def usual_limits(*reports: Results) -> Limits:
    """What matters, by where it was measured."""
    # Reports from before `kind` was noted name the cores of a CPU.
    on_cpu = (r.environment.get("kind", "cpu" if "core" in str(r.environment.get("device")) else "") for r in reports)
    return ON_CPU if "cpu" in on_cpu else ON_GPU


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status, as `--help` says."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        before, after = Results.load(args.before), Results.load(args.after)
        found = compare(before, after, _limits(args, usual_limits(before, after)))
        if args.json is not None:
            _write(args.json, {"before": str(args.before), "after": str(args.after), **asdict(found)})
        console = Console()
        if not console.is_terminal:
            console.width = WIDTH
        show(console, found)
        if not args.fail:
            return 0
        _comparable(before, after, () if args.across else found.unlike)
        return int(found.worse > 0)
    except ReportError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def _limits(args: argparse.Namespace, usual: Limits) -> Limits:
    given = {name: getattr(args, name) for name in ("least", "least_single", "least_memory")}
    return replace(usual, **{name: percent / 100 for name, percent in given.items() if percent is not None})


def _comparable(before: Results, after: Results, unlike: Sequence[Difference]) -> None:
    if unlike:
        what = "; ".join(f"{d.what} {d.before!r} and {d.after!r}" for d in unlike)
        raise ReportError(
            f"--fail: these reports do not compare: {what}. Make both alike, or add --across to judge accuracy, "
            "counts, answers and parts without times and memory"
        )
    if not {s.name for s in before.sections} & {s.name for s in after.sections}:
        raise ReportError("--fail: these reports have no part in common: make both with the same --sections")


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
        epilog="Exit status: 0; with --fail 1 if anything got worse; 2 for a wrong command line or what is no report,\n"
        "and with --fail for reports that do not compare.",
    )
    parser.add_argument("before", type=Path, help=f"folder of a report, or its {FILE}")
    parser.add_argument("after", type=Path, help="the same of the report to compare with it")
    parser.add_argument(
        "--least", type=_percent, help="change of times and rates that matters, in percent (5; on a CPU 20)"
    )
    parser.add_argument("--least-single", type=_percent, help="the same where there are too few values to know (20)")
    parser.add_argument(
        "--least-memory", type=_percent, help="change of memory that matters, in percent (1; on a CPU 20)"
    )
    parser.add_argument("--json", type=Path, help="write everything that differs to this file")
    parser.add_argument("--fail", action="store_true", help="exit status 1 if anything got worse")
    parser.add_argument(
        "--across", action="store_true", help="with --fail: also across machines and models, without times and memory"
    )
    return parser


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of percent: give 0 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
