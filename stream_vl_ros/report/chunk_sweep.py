"""Sizes of chunks."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np

from stream_vl_ros.engine import VideoStream
from stream_vl_ros.engine.units import MIB, NANOSECONDS
from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.findings import same_in_words
from stream_vl_ros.report.results import Point, Section
from stream_vl_ros.report.sides import Clip
from stream_vl_ros.report.words import counted

# First chunks that are measured of each size: one alone says nothing.
STARTS = 3
SHORT = "stream, a frame short of a chunk"


def chunks(bench: Bench) -> Section:
    section = Section(
        "chunks",
        "Chunk size",
        "frames per chunk",
        "The first chunk of a new stream and the later ones apart; one stream of each size warms up before. Frames are "
        "encoded in pairs, as the model's temporal patches are. Memory growth is what the allocator handed out for a "
        "stream that holds the whole clip; buffers grow by half of what they hold, so that up to a third is spare, and "
        "how much that is depends on where the last growth fell. First token: of a question that comes when no frame "
        "waits, and of one that comes when a chunk lacks its last frame: it encodes those that wait before its answer.",
    )
    sweep(bench, section, list(bench.material.clips(max(STARTS, bench.plan.clips), bench.plan.frames)))
    section.findings.append(odd_in_words(bench, next(bench.material.clips(1, 4))))
    usual = bench.config().chunk_frames
    new, old = (section.at(m, "stream", usual) for m in ("first chunk", "later chunks"))
    if new and old:
        section.findings.append(
            f"Of {usual} frames, the first chunk of the process took {bench.cold[0]:.1f} ms, the first one of a new "
            f"stream takes {new.median:.1f} ms, later ones {old.median:.1f} ms, as they read what came before as well."
        )
    return section


def sweep(bench: Bench, section: Section, clips: Sequence[Clip]) -> None:
    """Every size of chunk over all clips, and which is best and why, into a section."""
    for frames in bench.plan.chunk_frames:
        section.points += _size(bench, frames, clips)
        bench.say(f"chunks of {frames}: {section.of('per frame')[-1].median:.2f} ms a frame")
    section.findings.append(best_in_words(section))


def _size(bench: Bench, frames: int, clips: Sequence[Clip]) -> list[Point]:
    gauge, config = bench.sides.gauge, bench.config(chunk_frames=frames)
    bench.sides.watch(clips[0].first(2 * frames), config)  # what is made once for pictures of this size
    _first(bench, clips[0], frames)
    empty = VideoStream(bench.sides.loaded, config).cache.length
    first, later, growth, cache, tokens = [], [], [], [], 0.0
    asked: dict[str, list[float]] = {"stream": [], SHORT: []}
    for clip in clips:
        gc.collect()
        before = gauge.allocated()
        stream, times = bench.sides.watch(clip, config)
        # The frames that are left at the end are a smaller chunk.
        whole = len(clip) // whole_pairs(frames)
        first.append(times[0])
        later += times[1:whole]
        growth.append((gauge.allocated() - before) / MIB)
        cache.append(stream.cache.memory_bytes / MIB)
        tokens = (stream.cache.length - empty) * whole_pairs(frames) / (len(clip) + len(clip) % 2)
        del stream  # before the next one is measured: what it held would be taken from what that one takes
        for series, milliseconds in _first(bench, clip, frames).items():
            asked[series].append(milliseconds)
    encoded = whole_pairs(frames)
    if not later:
        raise ReportError(f"clips of {len(clips[0])} frames hold no two chunks of {frames}: take longer ones")
    return [
        Point("stream", "first chunk", "ms", frames, tuple(first), timed=True),
        Point("stream", "later chunks", "ms", frames, tuple(later), timed=True),
        Point("stream", "per frame", "ms", frames, tuple(t / encoded for t in later), timed=True),
        Point("stream", "memory growth", "MiB", frames, tuple(growth), timed=True),
        Point("stream", "cache memory", "MiB", frames, (max(cache),)),
        Point("stream", "cache growth", "tokens", frames, (tokens,)),
        *(Point(s, "first token", "ms", frames, tuple(times), timed=True) for s, times in asked.items()),
    ]


def _first(bench: Bench, clip: Clip, frames: int) -> dict[str, float]:
    """Milliseconds to the first token of a question where no frame waits, and where as many do as can."""
    encoded, found = whole_pairs(frames), {}
    most = frames - 1 + encoded * ((len(clip) - frames + 1) // encoded)
    for series, length, waiting in (("stream", len(clip) - len(clip) % 2, 0), (SHORT, most, frames - 1)):
        stream, _ = bench.sides.watch(clip.first(length), bench.config(chunk_frames=frames), flush=not waiting)
        assert len(stream.pending) == waiting
        found[series] = bench.sides.answer(stream, clip.questions[0], 0, []).first
    return found


def whole_pairs(frames: int) -> int:
    """Frames that a chunk of so many encodes; the odd one waits."""
    return max(2, frames - frames % 2)


def cost(section: Section) -> tuple[float, float] | None:
    """Milliseconds of a chunk whatever its size, and of each frame in it; None where only one size was tried."""
    later = section.of("later chunks")
    encoded = [whole_pairs(round(p.x)) for p in later]
    if len(set(encoded)) < 2:
        return None
    each, fixed = np.polyfit(encoded, [p.median for p in later], 1)
    return float(fixed), float(each)


def _best(section: Section) -> float:
    # An odd size encodes what the even one below it does, and keeps a frame waiting.
    tried = {p.x: p.median for p in section.of("per frame")}
    per_frame = {x: each for x, each in tried.items() if whole_pairs(round(x)) == x} or tried
    # The smallest that is as good as any: frames wait less for it.
    return min(x for x, each in per_frame.items() if each <= 1.05 * min(per_frame.values()))


def best_in_words(section: Section) -> str:
    """Which size is best, and why."""
    per_frame = {p.x: p.median for p in section.of("per frame")}
    best, small, fitted = _best(section), min(per_frame), cost(section)
    why = ""
    if fitted is not None:
        # A chunk cannot cost less than nothing, nor can a frame: a negative part of the fit is noise.
        fixed, each = max(0.0, fitted[0]), max(0.0, fitted[1])
        share = 100 * fixed / (fixed + each * whole_pairs(round(small)))
        so = (
            f"the more frames share that, the cheaper each is: it is {share:.0f} % of a chunk of {small:g}"
            if best != small
            else "there is next to nothing that frames could share, and the smallest chunk waits least"
        )
        why = f" A chunk costs {fixed:.2f} ms whatever its size plus {each:.2f} ms a frame, so {so}."
    faster = f", {per_frame[small] / per_frame[best]:.2f} times as fast as chunks of {small:g}" if best != small else ""
    larger = (
        "no larger one was tried" if best == max(per_frame) else "no larger one that was tried is faster by 5 % or more"
    )
    return (
        f"Chunks of {best:g} frames are best here: {per_frame[best]:.2f} ms a frame{faster}; {larger}.{why} A frame "
        f"waits up to {(best - 1) / 2:.1f} s for a chunk to fill at 2 fps; a question sees waiting frames, and encodes "
        f"them then{_waiting_in_words(section, best)}."
    )


def _waiting_in_words(section: Section, best: float) -> str:
    """What that costs, at the best size and at the smallest."""
    none = section.at("first token", "stream", best)
    some = [
        p
        for x in sorted({min(p.x for p in section.of("per frame")), best})
        if (p := section.at("first token", SHORT, x))
    ]
    if none is None or not some:
        return ""
    words = " and ".join(
        f"{p.median:.1f} ms where {counted(p.x - 1, 'frames')} of a chunk of {p.x:g} wait" for p in some
    )
    return f": its first token comes after {words}, and after {none.median:.1f} ms where none does"


def odd_in_words(bench: Bench, clip: Clip) -> str:
    """What becomes of the odd frame of a chunk of 3."""
    seen = {}
    for frames in (3, 4):
        stream = VideoStream(bench.sides.loaded, bench.config(chunk_frames=8))
        for frame, seconds in zip(clip.frames[:frames], clip.stamps[:frames], strict=True):
            stream.offer(frame, round(seconds * NANOSECONDS))
        with stream.fork() as fork:
            seen[frames] = fork.cache.length - stream.cache.length
    return (
        "A temporal patch is two frames: a chunk of 3 encodes 2, costs what a chunk of 2 does, and keeps the third "
        "waiting for its partner. A question that comes then sees the odd frame doubled, as the model's processor pads "
        f"it: 3 frames take {seen[3]} tokens, 4 take {seen[4]}."
    )


def chunk_size(bench: Bench) -> Section:
    section = Section(
        "chunk size",
        "Chunk size, question by question",
        "frames per chunk",
        "Whether the answers and their cost depend on how the frames were batched, where none waits for its chunk when "
        "the question comes; 'Chunk size' has the other case. Native has no chunks: it is the dashed line.",
    )
    clips = list(bench.material.clips(bench.plan.clips, bench.plan.frames))
    for frames in bench.plan.chunk_frames:
        section.points += bench.streamed(section, frames, clips, bench.config(chunk_frames=frames))
    section.points += bench.native(section, max(bench.plan.chunk_frames), clips)
    firsts = [p.median for p in section.of("first token", "stream")]
    section.findings.append(
        f"First token: {min(firsts):.1f} to {max(firsts):.1f} ms streaming with chunks of "
        f"{min(bench.plan.chunk_frames)} to {max(bench.plan.chunk_frames)} frames."
    )
    section.findings += same_in_words(section, "chunk size")
    return section
