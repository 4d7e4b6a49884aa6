"""More questions at once, and less memory than the video needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream_vl_ros.bench.eviction_runs import full_cache
from stream_vl_ros.bench.gpu_runs import sync
from stream_vl_ros.engine import DecodeBatch, Question, VideoStream
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import FrameError, NativeOOMError
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.points import named
from stream_vl_ros.report.results import Point, Section
from stream_vl_ros.report.sides import Asked, Clip, Sides
from stream_vl_ros.report.words import counted


@dataclass(slots=True)
class Round:
    """What became of questions that were asked at the same moment. Times in milliseconds, memory in bytes.

    Attributes:
        whole: until all were answered.
        ingest: until all frames were in the context: once for a stream, for native once a question.
        first: of each question, from that moment to its first token.
        token: each further token of an answer.
        grown: the most that was held at once beyond what was there before the video.
        right: of each question with a known answer, whether its answer is.
    """

    whole: float = 0.0
    ingest: float = 0.0
    first: list[float] = field(default_factory=list)
    token: list[float] = field(default_factory=list)
    grown: int = 0
    right: list[bool] = field(default_factory=list)


def side_by_side(sides: Sides, stream: VideoStream, asked: Sequence[Asked], before: int) -> Round:
    """All at once on forks of a stream; `before` is what was held before there was the stream."""
    it = Round()
    sides.gauge.reset()
    sync(sides.device)
    began = time.perf_counter()
    batch = DecodeBatch(sides.loaded)
    generations = [stream.start(Question(a.text, max_new_tokens=sides.tokens)) for a in asked]
    for generation in generations:
        generation.prefill()
        it.first.append(1e3 * (time.perf_counter() - began))
        if not generation.done:
            batch.add(generation)
    while any(not g.done for g in generations):
        at = time.perf_counter()
        batch.step()
        it.token.append(1e3 * (time.perf_counter() - at))
    it.whole = 1e3 * (time.perf_counter() - began)
    it.grown = sides.gauge.peak() - before
    it.right = [a.right(g.answer().text) for a, g in zip(asked, generations, strict=True) if a.right]
    return it


def in_turn(sides: Sides, clip: Clip, asked: Sequence[Asked]) -> Round:
    """One after the other natively: each waits for those before it.

    Raises:
        NativeOOMError: if there is no memory for that.
    """
    it = Round()
    for question in asked:
        run = sides.ask_native(clip, question)
        it.first.append(it.whole + run.first)
        it.whole += run.total
        it.ingest += run.ingest
        it.token += run.token
        it.grown = max(it.grown, run.peak - run.before)
        it.right += [] if run.right is None else [run.right]
    return it


def _points(series: str, count: int, rounds: Sequence[Round]) -> list[Point]:
    made = [
        Point(series, "all answered", "ms", count, tuple(r.whole for r in rounds), timed=True),
        Point(series, "ingest", "ms", count, tuple(r.ingest for r in rounds), timed=True),
        Point(series, "first token", "ms", count, tuple(t for r in rounds for t in r.first), timed=True),
        Point(series, "peak memory", "MiB", count, tuple(r.grown / MIB for r in rounds), timed=True),
    ]
    tokens = tuple(t for r in rounds for t in r.token)
    right = [r for it in rounds for r in it.right]
    if tokens:
        made.append(Point(series, "token", "ms", count, tokens, timed=True))
    if right:
        made.append(Point(series, "accuracy", "%", count, (100 * sum(right) / len(right),)))
    return made


def questions(bench: Bench) -> Section:
    plan, sides = bench.plan, bench.sides
    section = Section(
        "questions",
        "Questions at once",
        "questions at once",
        "Different questions about the same moment, asked together. Streaming answers them side by side on forks of "
        "one cache; native answers the same ones one after the other, so that each waits for those before it. Ingest: "
        "the time in which frames came into the context, once for streaming, once a question natively. First token: of "
        "every question, from the moment at which all were asked; token: each further one of an answer.",
    )
    clip = next(bench.material.clips(1, plan.frames))
    n = len(clip.questions)
    # Spaces make texts of their own of questions that come again.
    asked = [Asked(q.text + " " * (i // n), q.right) for i, q in zip(range(64), clip.questions * 64, strict=False)]
    before = sides.gauge.reset()
    stream, chunks = sides.watch(clip, bench.config())
    for count in plan.questions:
        side_by_side(sides, stream, asked[:count], before)  # what is made once for so many
        ours = [side_by_side(sides, stream, asked[:count], before) for _ in range(plan.repeats)]
        for one in ours:
            one.ingest = sum(chunks)
        section.points += _points("stream", count, ours)
        bench.say(f"{counted(count, 'questions')}: {section.of('all answered', 'stream')[-1].median:.1f} ms")
    del stream
    for count in plan.questions:
        try:
            theirs = [in_turn(sides, clip, asked[:count]) for _ in range(max(1, plan.repeats // 2))]
        except NativeOOMError as error:
            section.findings.append(str(error))
            break
        section.points += _points("native", count, theirs)
    section.findings[:0] = _questions_in_words(section)
    return section


def _questions_in_words(section: Section) -> list[str]:
    steps = section.of("token", "stream")
    ours, theirs = (section.of("all answered", s)[-1:] for s in ("stream", "native"))
    said = []
    for mine in ours:
        native = f" and {theirs[0].median:.0f} ms native, one after the other" if theirs else ""
        said.append(f"{mine.x:g} questions at once take {mine.median:.0f} ms streaming{native}.")
    if len(steps) > 1:
        few, many = steps[0], steps[-1]
        said[-1] = said[-1][:-1] + (
            f"; a step of all of them takes {many.median / few.median:.1f} times as long as a step of "
            f"{'one' if few.x == 1 else f'{few.x:g}'}."
        )
    firsts = [(s, section.of("first token", s)[-1:]) for s in ("stream", "native")]
    if all(p for _, p in firsts):
        words = ", ".join(f"{s} {p[0].median:.0f} ms (the last {max(p[0].values):.0f} ms)" for s, p in firsts)
        said.append(f"First token of {firsts[0][1][0].x:g} questions: {words}.")
    return said


def eviction(bench: Bench) -> Section:
    plan = bench.plan
    section = Section(
        "eviction",
        "Rule and budget of eviction",
        "budget, as a share of the full cache",
        "What is forgotten to stay within a budget of tokens. docs/memory.md looks at it by age. Native has no budget: "
        "it is the dashed line.",
    )
    clips = list(bench.material.clips(plan.clips, plan.frames))
    section.points += named("full cache", bench.streamed(section, 1.0, clips, bench.config()))
    whole = full_cache(bench.sides.loaded, plan.frames, bench.material.size, bench.sides.max_pixels)
    section.points += bench.native(section, 1.0, clips)
    for rule in ("window", "importance"):
        for share in plan.budgets:
            config = bench.config(eviction=rule, budget_tokens=round(share * whole))
            try:
                bench.settle_in(clips[0], config)
                section.points += named(rule, bench.streamed(section, share, clips, config))
            except FrameError as error:  # too little for two chunks of such pictures: the others are tried
                section.findings.append(f"{rule}, {share:g} of the full cache is refused: {error}")
                continue
            first = section.of("first token", rule)[-1].median
            bench.say(f"{rule}, {share:g} of the full cache: first token {first:.1f} ms")
    middle = min(plan.budgets, key=lambda b: abs(b - 0.5))
    chunks = [(r, section.at("chunk", r, middle)) for r in ("window", "importance")]
    if all(p for _, p in chunks):
        whole_chunk = section.of("chunk", "full cache")[0].median
        said = ", ".join(f"{p.median:.1f} ms with {r}" for r, p in chunks if p)
        section.findings.append(
            f"A chunk takes {said} at {middle:g} of the full cache, {whole_chunk:.1f} ms without a budget."
        )
    if section.of("accuracy"):
        percent = {r: section.at("accuracy", r, middle) for r in ("window", "importance")}
        said = ", ".join(f"{r} {p.median:.1f} %" for r, p in percent.items() if p is not None)
        section.findings.append(
            f"At {middle:g} of the full cache: {said}; the full cache "
            f"{section.of('accuracy', 'full cache')[0].median:.1f} %."
        )
    return section
