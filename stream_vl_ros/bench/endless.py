"""Hours of video at a fixed budget: does memory stay flat, time per chunk too, and are answers still right?

python -m stream_vl_ros.bench.endless
python -m stream_vl_ros.bench.endless --hours 2 --rule importance --json endless.json --plot endless.png

Stream time runs as fast as the machine allows. Exit status 1 if resident memory moved by more than 1 %, or the time
per chunk by more than 10 % (on a CPU its processor time, which other programs do not disturb), or answers got worse by
more than 2 points.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stream_vl_ros.bench.arguments import as_command, count, positive
from stream_vl_ros.bench.endless_run import Endless, run
from stream_vl_ros.bench.painted import scene_count
from stream_vl_ros.bench.records import environment, print_environment, progress, write_json
from stream_vl_ros.engine import StreamConfig, load_model
from stream_vl_ros.engine.loader import EMBEDDED


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--hours", type=positive, default=2.0, help="of stream time")
    parser.add_argument("--fps", type=positive, default=2.0)
    parser.add_argument("--rule", choices=("window", "importance"), default="importance")
    parser.add_argument("--budget-seconds", type=positive, default=24.0, help="of video that the memory is as large as")
    parser.add_argument("--still", type=float, default=0.0, help="still_threshold, grey levels")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--threads", type=count, default=1)
    parser.add_argument("--json", type=Path, help="write all samples here")
    parser.add_argument("--plot", type=Path, help="draw the curves into this PNG")
    return parser.parse_args(argv)


def table(found: Endless) -> Table:
    """The run in ten rows."""
    out = Table(title="Along the stream", title_justify="left")
    for name in (
        "hours",
        "chunk, ms",
        "busy, ms",
        "resident, MiB",
        "cache, MiB",
        "tokens",
        "largest position",
        "right, %",
    ):
        out.add_column(name, justify="right")
    for i in range(10):
        some = found.part(i / 10, (i + 1) / 10)
        last = some[-1]
        chunk, busy = (sorted(getattr(s, n) for s in some)[len(some) // 2] for n in ("chunk_ms", "busy_ms"))
        position, right = max(s.position for s in some), found.accuracy(i / 10, (i + 1) / 10)
        out.add_row(
            f"{last.hours:.2f}",
            f"{chunk:.1f}",
            f"{busy:.1f}",
            f"{last.resident_mib:.0f}",
            f"{last.cache_mib:.2f}",
            str(last.tokens),
            str(position),
            f"{right:.1f}",
        )
    return out


def verdicts(found: Endless, *, on_cpu: bool) -> list[tuple[bool, str]]:
    """Each claim, whether it holds, and its number."""
    memory, spread = found.memory_ratio(), found.memory_spread()
    chunk = found.chunk_ratio("busy_ms" if on_cpu else "chunk_ms")
    kind = "processor time" if on_cpu else "time"
    first, last = found.accuracy(0, 0.1), found.accuracy(0.9, 1)
    return [
        (abs(memory - 1) <= 0.01, f"resident memory, end against after warm-up: {memory:.4f} (spread {spread:.4f})"),
        (chunk <= 1.10, f"{kind} per chunk, last 5 % against first 5 % after warm-up: {chunk:.3f}"),
        (last >= first - 2, f"right answers about the present, last tenth {last:.1f} %, first tenth {first:.1f} %"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    console = Console(width=120)
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    config = StreamConfig(
        target_fps=args.fps, eviction=args.rule, budget_seconds=args.budget_seconds, still_threshold=args.still
    )
    record = environment(args, args.device)
    print_environment(console, record)
    with progress(console) as bar:
        task = bar.add_task("scenes of 64 frames", total=scene_count(args.hours, args.fps))
        found = run(model, config, hours=args.hours, fps=args.fps, seed=args.seed, tick=partial(bar.advance, task))
    console.print(table(found))
    console.print(f"{found.evicted_frames} frames forgotten, positions moved back {found.rebases} times")
    claims = verdicts(found, on_cpu=model.adapter.device.type == "cpu")
    for holds, sentence in claims:
        console.print(f"{'holds ' if holds else 'BROKEN'} {sentence}", highlight=False)
    if args.json:
        write_json(args.json, record, found.to_json())
    if args.plot:
        from stream_vl_ros.bench.endless_plot import plot

        plot(args.plot, found, f"{args.model}, {args.rule}, {args.budget_seconds:g} s of video, {record['device']}")
        console.print(f"curves: {args.plot}")
    return 0 if all(holds for holds, _ in claims) else 1


if __name__ == "__main__":
    as_command(main)
