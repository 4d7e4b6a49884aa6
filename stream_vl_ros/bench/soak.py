"""Hours of use, accelerated: does an engine that is asked all the time stay as it was?

python -m stream_vl_ros.bench.soak
python -m stream_vl_ros.bench.soak --hours 2 --json soak.json --plot soak.png

A camera shows scenes of the toy world as fast as the engine takes them, at a fixed budget. Five standing questions are
asked after every chunk, others about the last seconds at fixed moments, and two threads ask all the time: free answers,
options, dialogues, drawn and bound ones; some are cancelled, cut off, refused, or fail. Now and then a memory is kept,
gone back to, let go of; time jumps; settings change; a turn is remembered; frames cannot be used.

Exit status 1 if, after warm-up, resident memory moves by more than 1 % or the processor time per chunk rises by more
than 10 %; if the last third of the stream is answered worse than the first by more than 2 points, and more than one
answer; if threads, file descriptors or forks add up; or if any account does not. Ctrl-C ends it behind the scene that
is shown, with all of this for what there was until then, and 130 if that holds; a second one ends it at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stream_vl_ros.bench.arguments import as_command, positive
from stream_vl_ros.bench.painted import scene_count
from stream_vl_ros.bench.records import environment, print_environment, progress, write_json
from stream_vl_ros.bench.soak_records import Limits, Sample, Soak
from stream_vl_ros.bench.soak_run import run
from stream_vl_ros.bench.soak_script import FPS
from stream_vl_ros.engine import load_model
from stream_vl_ros.engine.loader import EMBEDDED

ROWS = 10


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    usual = Limits()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=positive, default=2.0, help="of stream time")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--max-memory", type=float, default=usual.memory, help="percent that resident memory may move")
    parser.add_argument("--max-chunk", type=float, default=usual.chunk, help="percent that a chunk may take longer")
    parser.add_argument("--max-accuracy", type=float, default=usual.accuracy, help="points that answers may get worse")
    parser.add_argument("--json", type=Path, help="write all samples here")
    parser.add_argument("--plot", type=Path, help="draw the curves into this PNG")
    return parser.parse_args(argv)


def table(found: Soak) -> Table:
    """The run in ten rows, each with the last sample of its part."""
    out = Table(title="Along the stream", title_justify="left")
    for name in ("hours", "chunk, ms", "resident, MiB", "peak, MiB", "pinned, MiB", "forks", "threads", "files"):
        out.add_column(name, justify="right")
    out.add_column("right, %", justify="right")
    out.add_column("standing, %", justify="right")
    n = len(found.samples)
    for i in range(min(ROWS, n)):
        some = found.samples[i * n // ROWS : max((i + 1) * n // ROWS, i * n // ROWS + 1)]
        last, chunks = some[-1], sorted(s.chunk_ms for s in some if s.chunk_ms is not None)
        out.add_row(
            f"{last.hours:.2f}",
            f"{chunks[len(chunks) // 2]:.1f}" if chunks else "-",
            f"{last.resident_mib:.1f}",
            f"{max(s.peak_mib for s in some):.1f}",
            f"{last.pinned_mib:.2f}",
            str(max(s.forks for s in some)),
            str(last.threads),
            str(last.files),
            f"{100 * sum(s.right for s in some) / max(1, sum(s.asked for s in some)):.1f}",
            f"{100 * sum(s.standing_right for s in some) / max(1, sum(s.standing for s in some)):.1f}",
        )
    return out


def figures(sample: Sample, found: Soak) -> str:
    """What the progress bar says."""
    chunk = next((s.chunk_ms for s in reversed(found.samples) if s.chunk_ms is not None), 0.0)
    right, asked = sum(s.right for s in found.samples), sum(s.asked for s in found.samples)
    return (
        f"{sample.hours:.2f} h  {sample.resident_mib:.0f} MiB  {chunk:.1f} ms a chunk  "
        f"{100 * right / max(1, asked):.1f} % right  {sample.answers} answers  scenes"
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    torch.set_num_threads(1)  # a thread's processor time is all of a chunk's then
    console = Console(width=140)
    limits = Limits(args.max_memory, args.max_chunk, args.max_accuracy)
    model = load_model(EMBEDDED, device="cpu", dtype="float32")
    record = environment(args)
    print_environment(console, record)
    count = scene_count(args.hours, FPS)
    with progress(console) as bar:
        task = bar.add_task("scenes", total=count)

        def tick(sample: Sample, found: Soak) -> None:
            bar.update(task, advance=1, description=figures(sample, found))

        found = run(model, scenes_shown=count, seed=args.seed, tick=tick)
    console.print(table(found))
    claims = found.verdicts(limits)
    for holds, sentence in claims:
        console.print(f"{'holds ' if holds else 'BROKEN'} {sentence}", highlight=False, markup=False)
    if args.json:
        write_json(args.json, record, found.to_json(limits))
    if args.plot:
        from stream_vl_ros.bench.soak_plot import plot

        plot(args.plot, found, f"embedded model, importance, 24 s of video, {record['device']}")
        console.print(f"curves: {args.plot}")
    if not all(holds for holds, _ in claims):
        return 1
    return 130 if found.interrupted else 0


if __name__ == "__main__":
    as_command(main)
