"""How fast the engine is on a GPU, beside native inference and plain streaming, in one process.

python -m stream_vl_ros.bench.gpu
python -m stream_vl_ros.bench.gpu --shape 7b --json gpu.json
python -m stream_vl_ros.bench.gpu --shape tiny --device cpu --dtype float32 --chunks 0 2 --repeats 2

Models of real sizes with random weights. Frames of 1280x720 are encoded at 1288x728: 1,196 tokens a pair.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from stream_vl_ros.bench import gpu_live, gpu_runs, gpu_shapes
from stream_vl_ros.bench.arguments import as_command, count, positive
from stream_vl_ros.bench.gpu_runs import Samples, Task
from stream_vl_ros.bench.native import NativeModel
from stream_vl_ros.bench.records import environment, print_environment, progress, write_json
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.warmup import warm_up

SYSTEMS = ("native", "plain", "modules", "engine", "live")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(gpu_shapes.SHAPES), default="3b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--chunks", nargs="+", type=int, default=[0, 6, 12, 24], help="contexts, in chunks of 4 frames")
    parser.add_argument("--size", nargs=2, type=count, default=[720, 1280], help="height and width of pictures")
    parser.add_argument("--max-pixels", type=count, default=728 * 1288)
    parser.add_argument("--repeats", type=count, default=24)
    parser.add_argument("--tokens", type=count, default=60, help="of an answer")
    parser.add_argument("--seconds", type=positive, default=12.0, help="of the live part, idle and busy each")
    parser.add_argument("--sustained", type=count, default=20, help="chunks of 16 small frames, one after the other")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, default=["native", "plain", "engine", "live"],
        help="'modules' is the engine on transformers' modules, without fused kernels",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write all values here")
    return parser.parse_args(argv)


def table(samples: Sequence[Samples]) -> Table:
    """One line per thing that was measured, one column per system and context."""
    result = Table(title="Medians (p99), milliseconds unless said", title_justify="left")
    for name in ("system", "what", "context", "median", "p99", "n"):
        result.add_column(name, justify="left" if name in ("system", "what") else "right")
    for s in samples:
        if s.values:
            result.add_row(s.system, s.what, str(s.context), f"{s.median:.2f}", f"{s.p99:.2f}", str(len(s.values)))
    return result


def runs(
    args: argparse.Namespace, task: Task, model: object, processor: object
) -> Iterator[tuple[str, Callable[[], Iterator[Samples]]]]:
    """The parts of a run, in an order in which none changes what another one measures."""
    if "native" in args.systems:
        native = NativeModel.of(model, processor)
        yield "native", lambda: gpu_runs.native(native, task)
    loaded: LoadedModel = gpu_shapes.loaded(args.shape, model, processor)
    if "plain" in args.systems:
        yield "plain streaming", lambda: gpu_runs.plain(loaded, task)
    if "modules" in args.systems:
        yield "modules", lambda: _modules(loaded, task)
    if "engine" in args.systems or "live" in args.systems:
        yield "warm-up", lambda: _warm_up(loaded, task)
    if "engine" in args.systems:
        yield "engine", lambda: gpu_runs.engine(loaded, task)
        yield "memory", lambda: gpu_runs.engine_memory(loaded, task)
    if "live" in args.systems:
        yield "sustained", lambda: gpu_live.sustained(loaded, args.sustained)
        yield "live", lambda: gpu_live.live(loaded, task, args.seconds, 4)


def _modules(loaded: LoadedModel, task: Task) -> Iterator[Samples]:
    adapter: Any = loaded.adapter
    fused, adapter.fused = adapter.fused, None
    try:
        yield from gpu_runs.engine(loaded, task, "engine, modules")
    finally:
        adapter.fused = fused


def _warm_up(loaded: LoadedModel, task: Task) -> Iterator[Samples]:
    seconds = gpu_runs.milliseconds(lambda: warm_up(loaded, task.config(1024)), loaded.adapter.device) / 1e3
    yield Samples("engine", "warm-up, s", 0, [seconds])


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    console = Console(width=120)
    device = torch.device(args.device)
    record = environment(args, args.device)
    print_environment(console, record)
    task = Task(tuple(sorted(args.chunks)), args.repeats, args.tokens, tuple(args.size), args.max_pixels)
    model, processor = gpu_shapes.build(args.shape, device, getattr(torch, args.dtype), args.max_pixels)
    samples: list[Samples] = []
    with progress(console) as bar:
        done = bar.add_task("measurements", total=None)
        for name, run in runs(args, task, model, processor):
            bar.update(done, description=name)
            for each in run():
                samples.append(each)
                bar.advance(done)
                if args.json:  # as far as it came, should a later part fail
                    write_json(args.json, record, {"samples": [asdict(s) for s in samples]})
    console.print(table(samples))


if __name__ == "__main__":
    as_command(main)
