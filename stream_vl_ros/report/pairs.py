"""The same frames and question on both sides: one pair after the other, under a cap of memory, on real footage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stream_vl_ros.bench.eviction_runs import full_cache
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import NativeOOMError
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.chunk_sweep import STARTS, sweep
from stream_vl_ros.report.findings import pairs_in_words, speed_in_words
from stream_vl_ros.report.ladder import compare, record
from stream_vl_ros.report.material import LONGEST, footage
from stream_vl_ros.report.points import INGEST, merged
from stream_vl_ros.report.results import Section
from stream_vl_ros.report.sides import Asked, Clip

# Of the ladder: recordings are short.
FOOTAGE_FPS = 10.0
# MiB in which a stream of small pictures runs.
_LEAST_CAP = 6.0
OF_FOOTAGE = " The embedded model knows a toy world only: what it says here is compared, not judged."


def pair(bench: Bench) -> Section:
    plan = bench.plan
    section = Section(
        "pair",
        "Stream against native",
        "frames",
        "The same frames and question, by this engine and by one-shot inference with the same transformers and "
        f"weights. Streaming has the frames in its cache when the question comes; native reads them then. {INGEST} "
        f"Memory is {bench.sides.gauge.means}; the peak is counted from what was held before; after is when the answer "
        "is there, of streaming with the video in its cache, of native with everything freed. Before each run the "
        "allocator gives back what is free, so that the peak is seen; native pays for that with some percent of its "
        "first token, streaming while the video comes.",
    )
    for clip in bench.material.clips(max(1, plan.clips // 2), plan.frames):
        for question in clip.questions[:2]:
            _compared(bench, section, clip, question, ladder=(1,))
    section.findings = [
        pairs_in_words(section, _dtype(bench)),
        *speed_in_words(section),
    ]
    return merged(section)


def ladder(bench: Bench) -> Section:
    plan = bench.plan
    section = Section(
        "ladder",
        "When native runs out of memory",
        "frames",
        (f"Either side may allocate {plan.cap:g} MiB beyond what is held. " if plan.cap else "")
        + f"What counts is {bench.sides.gauge.counts}. Where memory is too little it is freed and tried again with "
        f"fewer frames, at the strides {', '.join(map(str, plan.ladder))} and beyond, until both sides have answered "
        "about the same frames.",
    )
    clip = next(bench.material.clips(1, max(plan.lengths)))
    if bench.material.known and len(clip) > LONGEST:
        section.text += f" Beyond {LONGEST} frames a clip repeats: answers are compared, not judged."
    _compared(bench, section, clip, clip.questions[0], cap=plan.cap)
    if len(clip) > LONGEST:
        section.points = [p for p in section.points if p.measure != "accuracy"]
    return section


def real(bench: Bench, path: Path) -> Section:
    section = Section(
        f"footage {path.stem}",
        f"Real footage: {path.name}",
        "frames",
        f"As above, on a recording.{_of_footage(bench)}",
    )
    clip = footage(bench.sides.loaded, path, bench.plan.frames)
    bench.settle_in(clip)
    for question in clip.questions:
        _compared(bench, section, clip, question)
    section.findings.insert(0, f"{path.name}: {pairs_in_words(section, _dtype(bench))}")
    return section


def real_chunks(bench: Bench, path: Path) -> Section:
    section = Section(
        f"footage {path.stem} chunks",
        f"Chunk size on real footage: {path.name}",
        "frames per chunk",
        "As with the chunk sizes above, on a recording.",
    )
    clip = footage(bench.sides.loaded, path, bench.plan.frames)
    sweep(bench, section, [clip] * STARTS)
    return section


def real_ladder(bench: Bench, path: Path) -> Section:
    """The ladder under a cap of half of what native takes, or of less where that is enough for it all the same.

    A process that has run for a while holds memory that it can use again, and which no cap sees.
    """
    clip = footage(bench.sides.loaded, path, bench.plan.footage_frames, FOOTAGE_FPS)
    question = clip.questions[0]
    # The first run takes what is taken once as well, such as kernels that are made.
    runs = [bench.sides.ask_native(clip, question) for _ in range(2)]
    taken = min(run.peak - run.before for run in runs) / MIB
    cap = max(_LEAST_CAP, round(taken / 2))
    while cap > _LEAST_CAP and _has_room(bench, clip, question, cap):
        cap = max(_LEAST_CAP, round(cap / 2))
    section = Section(
        f"footage {path.stem} ladder",
        f"When native runs out of memory on real footage: {path.name}",
        "frames",
        f"Native takes {taken:.0f} MiB for {len(clip)} frames at {clip.fps:.3g} fps; "
        f"either side may allocate {cap:.0f} MiB.{_of_footage(bench)}",
    )
    _compared(bench, section, clip, question, cap=cap)
    return section


def _has_room(bench: Bench, clip: Clip, question: Asked, cap: float) -> bool:
    try:
        bench.sides.ask_native(clip, question, cap)
    except NativeOOMError:
        return False
    return True


def _compared(
    bench: Bench, section: Section, clip: Clip, question: Asked, *, ladder: Sequence[int] = (), cap: float = 0.0
) -> None:
    """Compare both sides, into a section; on the plan's ladder, unless another one is given."""
    plan, config = bench.plan, bench.config()
    if cap:  # what a cache takes in advance for videos that go on would count
        tokens = full_cache(bench.sides.loaded, len(clip), clip.frames.shape[1:3], bench.sides.max_pixels)
        config = bench.config(initial_capacity=min(tokens, config.initial_capacity))
    outcome = compare(
        bench.sides,
        clip,
        question,
        ladder=ladder or plan.ladder,
        cap=cap,
        repeats=plan.repeats,
        config=config,
        say=bench.say,
    )
    record(section, outcome, clip, question)


def _of_footage(bench: Bench) -> str:
    return OF_FOOTAGE if bench.material.known else ""


def _dtype(bench: Bench) -> str:
    return str(bench.sides.loaded.adapter.dtype).removeprefix("torch.")
