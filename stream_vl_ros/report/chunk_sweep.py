"""Sizes of chunks."""

from __future__ import annotations

from dataclasses import replace

from stream_vl_ros.engine import VideoStream
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.findings import same_in_words
from stream_vl_ros.report.results import Point, Section


def chunks(bench: Bench) -> Section:
    plan = bench.plan
    section = Section(
        "chunks",
        "Chunk size",
        "frames per chunk",
        "The first chunk of a new stream and the later ones apart. Frames are encoded in pairs: a chunk of 3 encodes 2 "
        "and keeps one waiting, so nothing is padded.",
    )
    clips = list(bench.material.clips(plan.clips, plan.frames))
    empty = VideoStream(bench.sides.loaded).cache.length
    for frames in plan.chunk_frames:
        config = bench.config(chunk_frames=frames)
        first, later, growth, held = [], [], [], []
        for clip in clips:
            before = bench.sides.gauge.reset()
            stream, times = bench.sides.watch(clip, config)
            first.append(times[0])
            later += times[1:]
            growth.append((bench.sides.gauge.held() - before) / MIB)
            held.append(stream.cache.length)
        encoded = max(2, frames - frames % 2)
        section.points += [
            Point("stream", "first chunk", "ms", frames, tuple(first), timed=True),
            Point("stream", "later chunks", "ms", frames, tuple(later), timed=True),
            Point("stream", "per frame", "ms", frames, tuple(t / encoded for t in later), timed=True),
            Point("stream", "memory growth", "MiB", frames, tuple(growth), timed=True),
            Point("stream", "cache growth", "tokens", frames, ((held[0] - empty) / len(times),)),
        ]
        bench.say(f"chunks of {frames}: {section.points[-3].median:.2f} ms a frame")
    per_frame = {p.x: p.median for p in section.of("per frame")}
    least, small = min(per_frame.values()), min(per_frame)
    # The smallest that is as good as any: frames wait less for it.
    best = min(x for x, cost in per_frame.items() if cost <= 1.05 * least)
    faster = f", {per_frame[small] / per_frame[best]:.2f} times as fast as chunks of {small:g}" if best != small else ""
    section.findings.append(
        f"Chunks of {best:g} frames are best here: {per_frame[best]:.2f} ms a frame{faster}; "
        f"no larger one that was tried is faster by 5 % or more. A frame waits up to "
        f"{(best - 1) / 2:.1f} s for it to fill at 2 fps; a question sees waiting frames, and encodes them then."
    )
    new, old = (section.at(m, "stream", best) for m in ("first chunk", "later chunks"))
    if new and old:
        section.findings.append(
            f"The first chunk of the process took {bench.cold[0]:.1f} ms, the first one of a new stream takes "
            f"{new.median:.1f} ms, later ones {old.median:.1f} ms."
        )
    return section


def chunk_size(bench: Bench) -> Section:
    section = Section(
        "chunk size",
        "Chunk size, question by question",
        "frames per chunk",
        "Whether the answers and their cost depend on how the frames were batched. Native has no chunks: it is the "
        "same measurement at every place.",
    )
    clips = list(bench.material.clips(bench.plan.clips, bench.plan.frames))
    natively = bench.native(section, 0, clips)
    for frames in bench.plan.chunk_frames:
        section.points += bench.streamed(section, frames, clips, bench.config(chunk_frames=frames))
        section.points += [replace(p, x=frames) for p in natively]
    section.findings += same_in_words(section, "chunk size")
    return section
