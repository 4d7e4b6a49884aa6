"""Stream against native, curves and limits, as a report with plots: index.html, Markdown, CSV and JSON.

make report
python -m stream_vl_ros.report --quick
python -m stream_vl_ros.report --device cuda --model Qwen/Qwen2.5-VL-3B-Instruct
python -m stream_vl_ros.report --device cuda --shape 3b --size 720 1280
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from stream_vl_ros.bench import footage as recordings
from stream_vl_ros.bench import gpu_shapes
from stream_vl_ros.bench.native import NativeModel
from stream_vl_ros.bench.records import environment, environment_lines, progress
from stream_vl_ros.engine import LoadedModel, load_model
from stream_vl_ros.engine.loader import EMBEDDED, RANDOM
from stream_vl_ros.engine.out_of_memory import is_out_of_memory
from stream_vl_ros.errors import ReportError, StreamVLError
from stream_vl_ros.report import chunk_sweep, curves, load, pairs
from stream_vl_ros.report.bench import Bench, Plan
from stream_vl_ros.report.gauge import Gauge
from stream_vl_ros.report.journal import Journal
from stream_vl_ros.report.material import Material
from stream_vl_ros.report.max_fps import max_fps
from stream_vl_ros.report.memory_truth import memory
from stream_vl_ros.report.options import LARGE, QUICK, QUICK_LARGE, SMALL, parse
from stream_vl_ros.report.results import FILE, Results, Section
from stream_vl_ros.report.sides import Sides
from stream_vl_ros.report.write import write
from stream_vl_ros.video import Video

_MAKERS: dict[str, Callable[[Bench], Section]] = {
    "pair": pairs.pair,
    "ladder": pairs.ladder,
    "chunks": chunk_sweep.chunks,
    "length": curves.length,
    "fps": curves.rate,
    "chunk size": chunk_sweep.chunk_size,
    "resolution": curves.resolution,
    "questions": load.questions,
    "eviction": load.eviction,
    "max fps": max_fps,
    "memory": memory,
}
_NAME = re.compile(r"[\w.][\w.+-]*")


def main(argv: Sequence[str] | None = None) -> int:
    """Make a report. Returns the exit code: 0, or 2 with the reason on stderr."""
    args = parse(argv, __doc__)
    try:
        return _make(args)
    except StreamVLError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2


def _make(args: Namespace) -> int:
    began = time.monotonic()
    plan = _plan(args)
    for path in args.footage or ():
        Video(path)  # before minutes are spent on the rest
    # A small model on few cores: threads that wait for each other cost more than they bring.
    threads = args.threads or (1 if _small(args) and not torch.cuda.is_available() else 0)
    if threads:
        torch.set_num_threads(threads)
    loaded = _load(args)
    device = loaded.adapter.device
    run = _folder(args, device)
    console = Console()
    record = environment(args, str(device))
    record["dtype"] = str(loaded.adapter.dtype).removeprefix("torch.")
    results, failed = Results(record, loaded.name), 0
    with Journal(console, run / "log.txt") as journal:
        results.log = journal.lines
        for line in environment_lines(record):
            journal.say(line)
        native = NativeModel.of(loaded.native, loaded.processor)
        sides = Sides(native, loaded, Gauge(device), args.tokens)
        known = args.model == EMBEDDED and not args.shape
        size = tuple(args.size) if args.size else (112, 112) if known else (720, 1280)
        bench = Bench(sides, Material(known, size, args.seed), plan, journal.say)
        makers = list(_chosen(args, bench))
        with progress(console) as bar:
            task = bar.add_task("warm-up", total=len(makers))
            bench.warm_up()
            for name, make in makers:
                bar.update(task, description=name)
                journal.say(f"--- {name}")
                try:
                    section = make(bench)
                except Exception as error:
                    if not isinstance(error, StreamVLError) and not is_out_of_memory(error):
                        raise
                    failed += 1
                    section = Section(name, name, "", "", [f"This part failed: {error}"], failed=True)
                results.sections.append(section)
                for finding in section.findings:
                    journal.say(f"=> {finding}")
                results.save(run)  # as far as it came, should a later part fail
                bar.advance(task)
    record["seconds"] = round(time.monotonic() - began)
    earlier = sorted(p.parent for p in (args.out / "runs").glob(f"*/{FILE}") if p.parent != run)
    write(results, run)
    write(results, args.out, [*earlier, run])
    console.print(f"{args.out / 'index.html'}", highlight=False)
    return 2 if failed else 0


def _small(args: Namespace) -> bool:
    return args.shape == "tiny" or (not args.shape and args.model in (EMBEDDED, RANDOM))


def _plan(args: Namespace) -> Plan:
    small, large = (QUICK, QUICK_LARGE) if args.quick else (SMALL, LARGE)
    plan = small if _small(args) else large
    given = {
        "ladder": tuple(args.strides) if args.strides else None,
        "cap": args.cap,
        "curve_cap": args.curve_cap,
        "lengths": tuple(sorted(args.lengths)) if args.lengths else None,
        "clips": args.clips,
        "repeats": args.repeats,
    }
    return dataclasses.replace(plan, **{k: v for k, v in given.items() if v is not None})


def _load(args: Namespace) -> LoadedModel:
    if not args.shape:
        return load_model(args.model, device=args.device, dtype=args.dtype)
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device)
    dtype = {"auto": torch.bfloat16 if device.type == "cuda" else torch.float32}.get(args.dtype)
    model, processor = gpu_shapes.build(args.shape, device, dtype or getattr(torch, args.dtype), 728 * 1288)
    return gpu_shapes.loaded(args.shape, model, processor)


def _folder(args: Namespace, device: torch.device) -> Path:
    now = datetime.datetime.now(datetime.timezone.utc)
    name = args.name or f"{now:%Y-%m-%dT%H-%M-%S}-{device.type}"
    if not _NAME.fullmatch(name):
        raise ReportError(f"--name {name!r}: letters, digits, '.', '-', '+' and '_' make a folder's name")
    run: Path = args.out / "runs" / name
    try:
        run.mkdir(parents=True, exist_ok=False)
    except FileExistsError as error:
        raise ReportError(f"{run} is there already: give this run another --name") from error
    except OSError as error:
        raise ReportError(f"{run} cannot be made: {error.strerror}") from error
    return run


def _chosen(args: Namespace, bench: Bench) -> Iterator[tuple[str, Callable[[Bench], Section]]]:
    for name in args.sections:
        if name in _MAKERS:
            yield name, _MAKERS[name]
    if "footage" in args.sections:
        files = args.footage if args.footage is not None else _installed(bench)
        for path in files:
            yield f"footage {path.name}", partial(pairs.real, path=path)
            if bench.plan.footage_frames:
                yield f"footage {path.name}, chunk size", partial(pairs.real_chunks, path=path)
                yield f"footage {path.name}, ladder", partial(pairs.real_ladder, path=path)


def _installed(bench: Bench) -> list[Path]:
    found = []
    for name in ("vtest", "bikes"):
        path = recordings.find(name)
        if path is None:
            bench.say(f"footage {name!r} is left out: it is not installed; {recordings.SOURCES[name]}")
        else:
            found.append(path)
    return found
