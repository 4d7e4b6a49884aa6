"""What forgetting costs: accuracy of the embedded model by age of the question, eviction rule and budget.

python -m stream_vl_ros.bench.eviction
python -m stream_vl_ros.bench.eviction --clips 100 --json eviction.json --plot eviction.png
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
from stream_vl_ros.bench.eviction_runs import FULL, Tally, Variant, run
from stream_vl_ros.bench.records import environment, print_environment, progress, write_json
from stream_vl_ros.engine import StreamConfig, load_model
from stream_vl_ros.engine.loader import EMBEDDED

AGES = (0.0, 0.25, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0)
RULES = ("window", "importance")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    defaults = StreamConfig()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--clips", type=count, default=60, help="held-out clips")
    parser.add_argument("--frames", type=count, default=64, help="frames of a clip")
    parser.add_argument("--fps", type=positive, default=2.0)
    parser.add_argument("--chunk", type=count, default=4, help="frames that are encoded together")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument(
        "--budgets", nargs="+", type=positive, default=[0.75, 0.5, 0.375, 0.25], help="of the full cache"
    )
    parser.add_argument("--recent-share", type=float, default=defaults.recent_share)
    parser.add_argument("--novelty-share", type=float, default=defaults.novelty_share)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--json", type=Path, help="write all counts here")
    parser.add_argument("--plot", type=Path, help="draw the curves into this PNG")
    return parser.parse_args(argv)


def table(variants: Sequence[Variant], tallies: dict[str, Tally]) -> Table:
    """Percent right by age; the last row says how many were asked."""
    ages = [a for a in AGES if tallies[FULL].percent(a) is not None]
    out = Table(title="Right answers, %, by age of what is asked about", title_justify="left")
    out.add_column("memory")
    out.add_column("tokens", justify="right")
    for low, high in zip(ages, [*ages[1:], None], strict=True):
        out.add_column("now" if low == 0 else f"{low:.3g}+ s" if high is None else f"-{high:.3g} s", justify="right")
    out.add_column("all", justify="right")
    out.add_column("forgotten by a window", justify="right")
    for v in variants:
        t = tallies[v.name]
        cells = [t.percent(a) for a in ages] + [t.percent(), None if v.rule == "none" else t.percent_past(v.share)]
        held = sum(t.held) / len(t.held)
        out.add_row(v.name, f"{held:.0f}", *("-" if c is None else f"{c:.1f}" for c in cells))
    counts = [tallies[FULL].by_age[a][1] for a in ages]
    out.add_row("asked", "", *map(str, [*counts, tallies[FULL].whole[1]]), "")
    return out


def conclusions(variants: Sequence[Variant], tallies: dict[str, Tally]) -> list[str]:
    """What the numbers say, in sentences."""
    out = []
    for v in variants:
        rival, mine = tallies.get(Variant("window", v.share).name), tallies[v.name]
        if v.rule != "importance" or rival is None:
            continue
        ours, theirs = mine.percent_past(v.share), rival.percent_past(v.share)
        if ours is not None and theirs is not None:
            verdict = "beats" if ours > theirs else "does not beat"
            out.append(
                f"at {v.share:.3g} of the full cache, about what a window has forgotten: importance {verdict} window, "
                f"{ours:.1f} % against {theirs:.1f} % of {mine.past[v.share][1]}"
            )
        whole, all_ = tallies[FULL].percent(), mine.percent()
        if v.share == 0.5 and whole is not None and all_ is not None:
            verdict = "within" if whole - all_ <= 2 else "not within"
            out.append(
                f"importance at half the budget is {verdict} 2 points of the full cache: {all_:.1f} of {whole:.1f} %"
            )
    return out


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    console = Console(width=150)
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    settings = {"importance": {"recent_share": args.recent_share, "novelty_share": args.novelty_share}}
    variants = [Variant("none", 1.0)]
    variants += [Variant(r, b, settings.get(r, {})) for b in args.budgets for r in args.rules]
    ages = AGES
    record = environment(args, args.device)
    print_environment(console, record)
    with progress(console) as bar:
        task = bar.add_task("clips watched", total=args.clips * len(variants))
        tallies = run(
            model,
            variants,
            clips=args.clips,
            frames=args.frames,
            fps=args.fps,
            ages=ages,
            chunk_frames=args.chunk,
            seed=args.seed,
            tick=partial(bar.advance, task),
        )
    console.print(table(variants, tallies))
    said = conclusions(variants, tallies)
    for line in said:
        console.print(line, highlight=False)
    if args.json:
        results = {"variants": {v.name: tallies[v.name].to_json() for v in variants}, "conclusions": said}
        write_json(args.json, record, results)
    if args.plot:
        from stream_vl_ros.bench.eviction_plot import plot

        what = f"{args.model}, {args.clips} held-out clips of {args.frames} frames at {args.fps:g} fps"
        plot(args.plot, variants, tallies, ages, what)
        console.print(f"curves: {args.plot}")


if __name__ == "__main__":
    as_command(main)
