"""How often the embedded model is right, through the streaming engine, on held-out clips.

python -m stream_vl_ros.bench.accuracy
python -m stream_vl_ros.bench.accuracy --suite lengths --lengths 8 32 --wordings fresh --clips 100
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from stream_vl_ros.bench import accuracy_suites as suites
from stream_vl_ros.bench.accuracy_score import Score
from stream_vl_ros.bench.arguments import as_command, count
from stream_vl_ros.engine import LoadedModel, load_model
from stream_vl_ros.engine.loader import EMBEDDED, EMBEDDED_FOLDER
from stream_vl_ros.world.wordings import SPLITS, Split

SUITES = ("lengths", "cameras", "drawn", "choices", "dialogues", "native", "speed")


def table(title: str, score: Score) -> Table:
    """Percent right by kind (rows) and column, with how many were asked."""
    columns = score.columns()
    out = Table(title=title, title_justify="left")
    out.add_column("question")
    for name in [*columns, "all", "asked"]:
        out.add_column(name, justify="right")
    for row in sorted(score.cells, key=lambda r: (r == "ALL", r)):
        values = [score.percent(row, c) for c in columns] + [score.percent(row)]
        out.add_row(row, *("-" if v is None else f"{v:.1f}" for v in values), str(score.asked(row)))
    return out


def plain(title: str, values: dict[str, float]) -> Table:
    out = Table(title=title, title_justify="left")
    out.add_column("measure")
    out.add_column("value", justify="right")
    for name, value in values.items():
        out.add_row(name, f"{value:.1f}")
    return out


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--suite", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--lengths", nargs="+", type=count, default=[4, 8, 16, 32, 48, 64], help="frames of the clips")
    parser.add_argument("--wordings", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--clips", type=count, default=40, help="clips per column")
    parser.add_argument("--chunk", type=count, default=4, help="frames that are encoded together")
    parser.add_argument("--seed", type=int, default=suites.SEED)
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--json", type=Path, help="write all counts here")
    parser.add_argument("--mistakes", action="store_true", help="print wrong answers")
    return parser.parse_args(argv)


def _lengths(model: LoadedModel, args: argparse.Namespace, split: Split, tick: suites.Tick) -> Score:
    return suites.lengths(model, args.lengths, args.clips, split, tick, args.seed, args.chunk)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    console = Console(width=150)
    start = time.perf_counter()
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    loaded = time.perf_counter() - start
    jobs: list[tuple[str, int, Callable[[suites.Tick], Score | dict[str, float]]]] = []
    n, seed = args.clips, args.seed
    if "lengths" in args.suite:
        jobs += [
            (
                f"By clip length in frames, wordings: {split}, %",
                n * len(args.lengths),
                partial(_lengths, model, args, split),
            )
            for split in args.wordings
        ]
    if "cameras" in args.suite:
        some = max(1, n // 2)
        jobs.append(("By camera, %", some * len(suites.ASPECTS), lambda tick: suites.cameras(model, some, tick, seed)))
    if "drawn" in args.suite:
        jobs.append(("By another renderer, %", n, lambda tick: suites.drawn(model, n, tick, seed)))
    if "choices" in args.suite:
        jobs.append(
            (
                "Multiple choice, options scored, by clip length, %",
                n * len(args.lengths),
                lambda tick: suites.scored_choices(model, args.lengths, n, tick, seed),
            )
        )
    if "dialogues" in args.suite:
        jobs.append(("Dialogues, %", 2 * n, lambda tick: suites.dialogues(model, 2 * n, tick, seed)))
    if "native" in args.suite:
        folder = str(EMBEDDED_FOLDER) if args.model == EMBEDDED else args.model
        few = max(1, n // 4)
        jobs.append(
            (
                "Streaming against native",
                len(suites.NATIVE_LENGTHS) * few,
                lambda tick: suites.against_native(model, folder, few, tick, seed),
            )
        )
    if "speed" in args.suite:
        jobs.append(("Speed", 6, lambda tick: suites.speed(model, tick, seed)))
    results: dict[str, object] = {
        "model": args.model,
        "device": args.device,
        "dtype": args.dtype,
        "threads": args.threads,
        "seed": seed,
        "load_s": loaded,
    }
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    with bar:
        for title, clips, job in jobs:
            task = bar.add_task(title, total=clips)
            found = job(partial(bar.advance, task))
            results[title] = found.to_json() if isinstance(found, Score) else found
            console.print(table(title, found) if isinstance(found, Score) else plain(title, found))
            if args.mistakes and isinstance(found, Score):
                for column, question, wanted, said in found.wrong:
                    console.print(f"[{column}] {question} | {wanted} | {said}", markup=False)
    console.print(f"model loaded in {loaded:.2f} s, everything in {time.perf_counter() - start:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    as_command(main)
