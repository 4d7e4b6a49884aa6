"""Stream against native, curves and limits, as a report with plots: index.html, Markdown, CSV and JSON.

make report
python -m stream_vl_ros.report --quick
python -m stream_vl_ros.report --device cuda --model Qwen/Qwen2.5-VL-3B-Instruct
python -m stream_vl_ros.report --device cuda --shape 3b --size 720 1280
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import os
import re
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from stream_vl_ros.bench import footage as recordings
from stream_vl_ros.bench import gpu_shapes
from stream_vl_ros.bench.native import NativeModel
from stream_vl_ros.bench.records import environment, environment_lines, progress
from stream_vl_ros.engine import LoadedModel, load_model
from stream_vl_ros.engine.loader import EMBEDDED, RANDOM, device_called, dtype_called
from stream_vl_ros.engine.out_of_memory import is_out_of_memory
from stream_vl_ros.errors import ReportError, StreamVLError
from stream_vl_ros.report import chunk_sweep, curves, load, pairs
from stream_vl_ros.report.bench import Bench, Plan
from stream_vl_ros.report.gauge import Gauge
from stream_vl_ros.report.journal import Journal
from stream_vl_ros.report.material import Material
from stream_vl_ros.report.max_fps import max_fps
from stream_vl_ros.report.memory_truth import memory
from stream_vl_ros.report.options import LARGE, QUICK, QUICK_LARGE, SMALL, check, parse
from stream_vl_ros.report.plots import FOLDER as PLOTS
from stream_vl_ros.report.results import FILE, Results, Section
from stream_vl_ros.report.sides import Sides
from stream_vl_ros.report.write import FILES, write, write_again
from stream_vl_ros.video import Video

Make = Callable[[Bench], Section]

_MAKERS: dict[str, Make] = {
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
    """Make a report.

    Returns:
        The exit code: 0; 2 with the reason on stderr, or in the report if only a part failed; 130 after Ctrl-C.
    """
    args = parse(argv, __doc__)
    try:
        return _make(args)
    except StreamVLError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("report: interrupted", file=sys.stderr)
        return 130


def _make(args: Namespace) -> int:
    began = time.monotonic()
    if importlib.util.find_spec("matplotlib") is None:
        raise ReportError("the plots of a report need matplotlib: pip install matplotlib")
    plan = _plan(args)
    check(args)
    parts = _chosen(args, plan)
    device = device_called(args.device)
    dtype = dtype_called(args.dtype, device)
    run = _folder(args, device)
    for path in args.footage or ():
        Video(path)  # before minutes are spent on the rest
    # A small model on few cores: threads that wait for each other cost more than they bring.
    threads = args.threads or (1 if _small(args) and not torch.cuda.is_available() else 0)
    if threads:
        torch.set_num_threads(threads)
    loaded = _load(args, device, dtype)
    try:
        run.mkdir(parents=True)
    except OSError as error:
        raise ReportError(f"{run} cannot be made: {error.strerror}") from error
    console = Console()
    record = environment(args, str(device))
    record["dtype"] = str(loaded.adapter.dtype).removeprefix("torch.")
    results = Results(record, loaded.name)
    try:
        with Journal(console, run / "log.txt") as journal:
            results.log = journal.lines
            for line in environment_lines(record):
                journal.say(line)
            _measure(_bench(args, plan, loaded, journal), parts, results, run, journal)
    finally:  # what is there is written, whatever ended it
        record["seconds"] = round(time.monotonic() - began)
        if results.sections:
            _write(results, run, args.out, console)
        else:
            shutil.rmtree(run)
    return 2 if any(section.failed for section in results.sections) else 0


def _bench(args: Namespace, plan: Plan, loaded: LoadedModel, journal: Journal) -> Bench:
    native = NativeModel.of(loaded.native, loaded.processor)
    sides = Sides(native, loaded, Gauge(loaded.adapter.device), args.tokens)
    known = args.model == EMBEDDED and not args.shape
    size = tuple(args.size) if args.size else (112, 112) if known else (720, 1280)
    return Bench(sides, Material(known, size, args.seed), plan, journal.say)


def _measure(bench: Bench, parts: Sequence[tuple[str, Make]], results: Results, run: Path, journal: Journal) -> None:
    """Add every part to the results; if one ends it, what is missing is said there as well."""
    with progress(journal.console) as bar:
        task = bar.add_task("warm-up", total=len(parts))
        bench.warm_up()
        try:
            for name, make in parts:
                bar.update(task, description=name)
                journal.say(f"--- {name}")
                section = _made(bench, name, make)
                results.sections.append(section)
                for finding in section.findings:
                    journal.say(f"=> {finding}")
                results.save(run)  # as far as it came, should a later part fail
                bar.advance(task)
        except BaseException as error:
            results.sections += _ended([name for name, _ in parts[len(results.sections) :]], error)
            raise


def _made(bench: Bench, name: str, make: Make) -> Section:
    try:
        return make(bench)
    except Exception as error:
        if not isinstance(error, StreamVLError) and not is_out_of_memory(error):
            raise
        return _failed(name, f"This part failed: {error}")


def _ended(left: Sequence[str], error: BaseException) -> list[Section]:
    """The part in which all ended, if it did in one, with what was not begun."""
    if not left:
        return []
    what = f"failed: {type(error).__name__}: {error}".removesuffix(": ")
    why = f"This part {'was interrupted' if isinstance(error, KeyboardInterrupt) else what}"
    return [_failed(left[0], why + (f". Not begun: {', '.join(left[1:])}." if left[1:] else "."))]


def _failed(name: str, why: str) -> Section:
    return Section(name, name, "", "", [why], failed=True)


def _write(results: Results, run: Path, out: Path, console: Console) -> None:
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    earlier = sorted(p.parent for p in (out / "runs").glob(f"*/{FILE}") if p.parent != run)
    try:
        say(f"drawing the plots of {run}")
        drawn = write(results, run)
        write_again(results, out, drawn, run, earlier)
    except BaseException:
        say(f"not drawn to the end; the numbers are in {run / FILE}")
        raise
    say(f"{out / 'index.html'}")


def _small(args: Namespace) -> bool:
    return args.shape == "tiny" or (not args.shape and args.model in (EMBEDDED, RANDOM))


def _plan(args: Namespace) -> Plan:
    small, large = (QUICK, QUICK_LARGE) if args.quick else (SMALL, LARGE)
    plan = small if _small(args) else large
    given = {
        "ladder": tuple(args.strides) if args.strides else None,
        "cap": args.cap,
        "curve_cap": args.curve_cap,
        "lengths": tuple(sorted(set(args.lengths))) if args.lengths else None,
        "clips": args.clips,
        "repeats": args.repeats,
    }
    return dataclasses.replace(plan, **{k: v for k, v in given.items() if v is not None})


def _load(args: Namespace, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    if not args.shape:
        return load_model(args.model, device=args.device, dtype=args.dtype)
    model, processor = gpu_shapes.build(args.shape, device, dtype, 728 * 1288)
    return gpu_shapes.loaded(args.shape, model, processor)


def _folder(args: Namespace, device: torch.device) -> Path:
    """Of this run; it can be made, and the newest report can be written above it."""
    now = datetime.datetime.now(datetime.timezone.utc)
    name = args.name or f"{now:%Y-%m-%dT%H-%M-%S}-{device.type}"
    if not _NAME.fullmatch(name):
        raise ReportError(f"--name {name!r}: letters, digits, '.', '-', '+' and '_' make a folder's name")
    run: Path = args.out / "runs" / name
    if os.path.lexists(run):
        raise ReportError(f"{run} is there already: give this run another --name")
    for folder in (args.out, run.parent, args.out / PLOTS):
        _check_folder(folder)
    for file in (args.out / name for name in FILES):
        if file.exists() and not (file.is_file() and os.access(file, os.W_OK, effective_ids=True)):
            raise ReportError(f"{file} cannot be written to: remove it, or give another folder with --out")
    return run


def _check_folder(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK, effective_ids=True)):
        why = "it is no folder" if not there.is_dir() else "you may not write there"
        raise ReportError(f"{there}: {why}; give another folder with --out")


def _chosen(args: Namespace, plan: Plan) -> list[tuple[str, Make]]:
    """Parts, under the names of their sections."""
    parts = [(name, _MAKERS[name]) for name in dict.fromkeys(args.sections) if name in _MAKERS]
    if "footage" in args.sections:
        if args.footage is None:
            for name in ("vtest", "bikes"):
                path = recordings.find(name)
                parts += _of_footage(path, plan) if path else [_left_out(name)]
        for path in args.footage or ():
            parts += _of_footage(path, plan)
    if not parts:
        raise ReportError("--sections footage and --footage without a file: there is nothing to measure; name one")
    return parts


def _of_footage(path: Path, plan: Plan) -> list[tuple[str, Make]]:
    name = f"footage {path.stem}"
    parts: list[tuple[str, Make]] = [(name, partial(pairs.real, path=path))]
    if plan.footage_frames:
        parts.append((f"{name} chunks", partial(pairs.real_chunks, path=path)))
        parts.append((f"{name} ladder", partial(pairs.real_ladder, path=path)))
    return parts


def _left_out(name: str) -> tuple[str, Make]:
    file = recordings.FILES[name]
    said = f"{file} is left out: it is not installed; {recordings.SOURCES[name]}"
    section = Section(f"footage {Path(file).stem}", f"Real footage: {file}", "", "", [said])
    return section.name, lambda bench: section
