"""Stream against native on one clip, down to the frame stride at which the native side still has memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stream_vl_ros.engine import StreamConfig
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import MemoryFullError, NativeOOMError, ReportError
from stream_vl_ros.report.points import points
from stream_vl_ros.report.results import Rung, Said, Section
from stream_vl_ros.report.sides import Asked, Clip, Run, Sides
from stream_vl_ros.report.words import answer, under_cap

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What became of a comparison.

    Attributes:
        rungs: every attempt, in order.
        stream: runs of the stream, by stride, where it had memory enough.
        taken: the most bytes that the stream took there at once under the cap, as a cap counts them.
        native: runs of native inference at the stride of the fair pair.
        fair: the first stride at which both ran.
        failures: native's, by stride.
        cap: MiB that either side was given, 0 for what the device has.
    """

    rungs: list[Rung] = field(default_factory=list)
    stream: dict[int, list[Run]] = field(default_factory=dict)
    taken: dict[int, int] = field(default_factory=dict)
    native: list[Run] = field(default_factory=list)
    fair: int = 0
    failures: dict[int, NativeOOMError] = field(default_factory=dict)
    cap: float = 0.0


def strides(ladder: Sequence[int], frames: int) -> Iterator[int]:
    """The ladder, and beyond it twice as much each time, as long as two frames are left.

    Raises:
        ReportError: for a ladder that does not rise.
    """
    if not ladder or any(s < 1 for s in ladder) or list(ladder) != sorted(set(ladder)):
        raise ReportError(f"frame strides {list(ladder)}: give rising whole numbers from 1, such as 1 2 4")
    last = 0
    for stride in ladder:
        if (frames - 1) // stride >= 1:
            last = stride
            yield stride
    while last and (frames - 1) // (2 * last) >= 1:
        last *= 2
        yield last


def compare(
    sides: Sides,
    clip: Clip,
    question: Asked,
    *,
    ladder: Sequence[int] = (1, 2, 4),
    cap: float = 0.0,
    repeats: int = 1,
    config: StreamConfig | None = None,
    say: Say = lambda text: None,
) -> Outcome:
    """Let both sides answer; where native runs out of memory, free it and try again with fewer frames.

    Both have the same cap. It only shows whether there is room: times are taken without one.

    Args:
        sides: the model, as both run it.
        clip: the frames.
        question: asked at their end.
        ladder: frame strides that are tried in turn; after the last one the stride doubles.
        cap: MiB that either side may allocate beyond what is held, 0 for what the device has.
        repeats: runs of each side at the fair stride.
        config: of the stream.
        say: told every attempt in a line.

    Returns:
        The outcome, with a fair pair in it.

    Raises:
        ReportError: if both ran at no stride at all.
    """
    outcome, tried = Outcome(cap=cap), list(strides(ladder, len(clip)))
    if not tried:
        raise ReportError(
            f"frame strides {list(ladder)}: no two of {clip.about()} are left at the smallest of them; give "
            f"{len(clip) - 1} or less"
        )

    def note(side: str, stride: int, part: Clip, ran: bool, words: str) -> None:
        outcome.rungs.append(Rung(clip.about(), side, stride, len(part), ran, words))
        say(f"{side}, stride {stride}, {len(part)} frames: {words}")

    for stride in tried:
        part = clip.every(stride)
        try:
            capped = sides.ask_stream(part, question, config, cap) if cap else None
            runs = [sides.ask_stream(part, question, config)]
        except MemoryFullError as error:
            note("stream", stride, part, False, str(error))
        else:
            outcome.stream[stride], outcome.taken[stride] = runs, (capped or runs[0]).taken
            note("stream", stride, part, True, _reached(runs[0]))
        try:
            if cap:
                sides.ask_native(part, question, cap)
            native = [sides.ask_native(part, question) for _ in range(repeats)]
        except NativeOOMError as error:
            outcome.failures[stride] = error
            note("native", stride, part, False, str(error))
            continue
        note("native", stride, part, True, _reached(native[0]))
        if stride in outcome.stream:
            try:
                outcome.stream[stride] += [sides.ask_stream(part, question, config) for _ in range(repeats - 1)]
            except MemoryFullError as error:
                del outcome.stream[stride]
                note("stream", stride, part, False, str(error))
                continue
            outcome.fair, outcome.native = stride, native
            return outcome
    raise ReportError(_nowhere(outcome, tried, clip))


def _nowhere(outcome: Outcome, tried: Sequence[int], clip: Clip) -> str:
    ran = {"streaming": [s for s in tried if s in outcome.stream]}
    ran["native"] = [s for s in tried if s not in outcome.failures]
    where = ", ".join(f"{side} ran {f'at {some}' if some else 'at none'}" for side, some in ran.items())
    return f"memory ran out for one side or both at every stride over {clip.about()}, {list(tried)}: {where}" + (
        f", with a cap of {outcome.cap:g} MiB; give it more" if outcome.cap else "; take a smaller model or pictures"
    )


def record(section: Section, outcome: Outcome, clip: Clip, question: Asked) -> None:
    """Put an outcome into a section: its rungs, both answers, all numbers, and what it comes to in words."""
    section.rungs += outcome.rungs
    for stride, runs in outcome.stream.items():
        if stride != outcome.fair:
            section.said.append(
                Said(clip.every(stride).about(stride), question.text, runs[0].text, None, None, runs[0].ids)
            )
    part, stream, native = clip.every(outcome.fair), outcome.stream[outcome.fair], outcome.native
    # One that differs, if any does.
    a, b = max(zip(stream, native, strict=True), key=lambda pair: pair[0].ids != pair[1].ids)
    same = a.ids == b.ids
    section.said.append(Said(part.about(outcome.fair), question.text, a.text, b.text, same, a.ids, b.ids))
    section.points += points("stream", len(part), stream) + points("native", len(part), native)
    section.findings += findings(outcome, clip)


def findings(outcome: Outcome, clip: Clip) -> list[str]:
    """In sentences."""
    stream, native = outcome.stream[outcome.fair], outcome.native
    same = sum(a.ids == b.ids for a, b in zip(stream, native, strict=True))
    frames = {rung.stride: rung.frames for rung in outcome.rungs}
    said = []
    alone = [stride for stride in outcome.failures if stride in outcome.stream]
    if alone:
        first = min(alone)
        error = outcome.failures[first]
        also = "".join(f", {stride} ({frames[stride]})" for stride in sorted(alone)[1:])
        asked = f" and asked for {error.asked / MIB:.1f} MiB more" if error.asked is not None else ""
        said.append(
            f"{clip.source}: at stride {first} ({frames[first]} frames){also} only streaming ran"
            f"{under_cap(outcome.cap)}: at {first} it had taken {outcome.taken[first] / MIB:.1f} MiB at the most, "
            f"native {(error.allocated - error.before) / MIB:.1f} MiB{asked}. Both ran at stride {outcome.fair} "
            f"({frames[outcome.fair]} frames)."
        )
    a, b = (statistics.median(r.first for r in runs) for runs in (stream, native))
    said.append(
        f"{clip.source}, {frames[outcome.fair]} frames: first token after {a:.1f} ms streaming and {b:.1f} ms native "
        f"({b / a:.1f} times as long); tokens identical in {same} of {len(stream)} repetitions."
    )
    return said


def _reached(run: Run) -> str:
    cache = f"cache {run.cache_tokens} tokens" if run.chunks else f"{run.context_tokens} tokens in one go"
    return (
        f"first token {run.first:.1f} ms, answer {run.total:.1f} ms, peak +{(run.peak - run.before) / MIB:.1f} MiB, "
        f"{cache}: {answer(run.text, run.ids)[:80]!r}"
    )
