"""What the report can be told on the command line, and what it does by default."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stream_vl_ros.bench import gpu_shapes
from stream_vl_ros.engine.loader import EMBEDDED
from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.bench import Plan

SECTIONS = (
    "pair", "ladder", "chunks", "length", "fps", "chunk size", "resolution", "questions", "eviction", "max fps",
    "memory", "footage",
)  # fmt: skip

SMALL = Plan(
    clips=5,
    repeats=5,
    lengths=(8, 16, 32, 64, 128, 256, 512, 1024),
    chunk_frames=(2, 3, 4, 6, 8),
    rates=(1.0, 2.0, 4.0),
    duration=12.0,
    sides=(56, 84, 112, 224),
    questions=(1, 2, 4, 8, 16),
    budgets=(0.25, 0.5, 0.75),
    frames=48,
    ladder=(1, 2, 4),
    cap=192.0,
    curve_cap=384.0,
    footage_frames=256,
    seconds=3.0,
    confirm=10.0,
)
"""For the embedded model on a CPU."""

LARGE = Plan(
    clips=1,
    repeats=3,
    lengths=(8, 24, 48, 96),
    chunk_frames=(2, 3, 4, 6, 8),
    rates=(1.0, 2.0, 4.0),
    duration=8.0,
    sides=(364, 728, 924),
    questions=(1, 4, 8),
    budgets=(0.4, 0.5, 0.75),
    frames=24,
    ladder=(1, 2, 4),
    cap=6000.0,
    curve_cap=6000.0,
    footage_frames=96,
    seconds=3.0,
    confirm=10.0,
)
"""For models of real sizes on a GPU: minutes."""

QUICK = Plan(
    clips=1,
    repeats=2,
    lengths=(8, 16, 128),
    chunk_frames=(2, 3, 4),
    rates=(1.0, 2.0),
    duration=6.0,
    sides=(56, 112),
    questions=(1, 4),
    budgets=(0.5,),
    frames=32,
    ladder=(1, 2, 4),
    cap=48.0,
    curve_cap=64.0,
    footage_frames=96,
    seconds=1.0,
    confirm=2.0,
)
"""To see that everything runs."""

QUICK_LARGE = replace(
    LARGE,
    repeats=1,
    lengths=(8, 16),
    chunk_frames=(2, 3),
    rates=(1.0, 2.0),
    duration=4.0,
    sides=(364,),
    questions=(1, 2),
    budgets=(0.5,),
    frames=8,
    cap=1000.0,
    seconds=1.0,
    confirm=2.0,
)
"""The same with a model of real size."""


def parse(argv: Sequence[str] | None, doc: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stream_vl_ros.report", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", default=EMBEDDED, help="'embedded', 'random', a folder, or a hub id")
    model.add_argument("--shape", choices=sorted(gpu_shapes.SHAPES), help="a model of this size with random weights")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME",
                        help=f"some of: {', '.join(SECTIONS)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--strides", nargs="+", type=int, help="frame strides that native is given in turn")
    parser.add_argument("--cap", type=float, help="MiB that either side may allocate in the ladder; 0 for no cap")
    parser.add_argument("--curve-cap", type=float, help="the same in the curve over length")
    parser.add_argument("--lengths", nargs="+", type=int, help="frames of the curve over length")
    parser.add_argument("--clips", type=int, help="clips at each place of a curve")
    parser.add_argument("--repeats", type=int, help="of what is measured on one clip")
    parser.add_argument("--size", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"), help="of pictures")
    parser.add_argument("--tokens", type=int, default=48, help="of an answer at the most")
    parser.add_argument("--footage", nargs="*", type=Path, help="video files; without it those that are installed")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of the CPU; without it 1 for small models")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder; earlier runs in it are kept")
    parser.add_argument("--name", help="of this run; without it date and device")
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """What can be told of the values before anything is loaded, and is not the plan's to tell.

    Raises:
        ReportError: for one that cannot work.
    """
    if args.threads is not None and args.threads < 1:
        raise ReportError(f"--threads {args.threads}: give 1 or more, or leave it out")
    if args.size is not None and min(args.size) < 1:
        raise ReportError(f"--size {' '.join(map(str, args.size))}: give a height and a width of 1 pixel or more")
    if args.tokens < 1:
        raise ReportError(f"--tokens {args.tokens}: an answer has 1 at the least")
    if args.seed < 0:
        raise ReportError(f"--seed {args.seed}: give 0 or more")
    names = [path.stem for path in args.footage or ()]
    for name in names:
        if names.count(name) > 1:
            raise ReportError(f"--footage: {name!r} is the name of two files, and of their parts; rename one of them")
