"""More questions at once, and less memory than the video needs."""

from __future__ import annotations

import time

from stream_vl_ros.bench.gpu_runs import sync
from stream_vl_ros.engine import DecodeBatch, Question
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.points import named
from stream_vl_ros.report.results import Point, Section


def questions(bench: Bench) -> Section:
    plan, sides = bench.plan, bench.sides
    section = Section(
        "questions",
        "Questions at once",
        "questions at once",
        "Different questions about the same moment. Streaming answers them side by side on forks of one cache; native "
        "answers one after the other. Time until all are answered.",
    )
    clip = next(bench.material.clips(1, plan.frames))
    stream, _ = sides.watch(clip, bench.config())
    texts = [clip.questions[i % len(clip.questions)].text + " " * (i // len(clip.questions)) for i in range(64)]
    for count in plan.questions:
        whole: list[float] = []
        steps: list[float] = []
        for _ in range(plan.repeats):
            sync(sides.device)
            began = time.perf_counter()
            batch = DecodeBatch(sides.loaded)
            generations = [stream.start(Question(t, max_new_tokens=sides.tokens)) for t in texts[:count]]
            for generation in generations:
                generation.prefill()
                if not generation.done:
                    batch.add(generation)
            while any(not g.done for g in generations):
                at = time.perf_counter()
                batch.step()
                steps.append(1e3 * (time.perf_counter() - at))
            whole.append(1e3 * (time.perf_counter() - began))
        section.points.append(Point("stream", "all answered", "ms", count, tuple(whole), timed=True))
        section.points.append(Point("stream", "step of all", "ms", count, tuple(steps), timed=True))
        natively: list[float] = []
        for _ in range(max(1, plan.repeats // 2)):
            runs = [sides.ask_native(clip, clip.questions[i % len(clip.questions)]) for i in range(count)]
            natively.append(sum(r.total for r in runs))
        section.points.append(Point("native", "all answered", "ms", count, tuple(natively), timed=True))
        bench.say(f"{count} questions: {section.of('all answered', 'stream')[-1].median:.1f} ms")
    few, many = (section.of("step of all", "stream")[i] for i in (0, -1))
    ours, theirs = (section.of("all answered", s)[-1].median for s in ("stream", "native"))
    section.findings.append(
        f"{many.x:g} questions at once take {ours:.0f} ms streaming and {theirs:.0f} ms native; a step of all of them "
        f"takes {many.median / few.median:.1f} times as long as a step of {few.x:g}."
    )
    return section


def eviction(bench: Bench) -> Section:
    plan = bench.plan
    section = Section(
        "eviction",
        "Rule and budget of eviction",
        "budget, as a share of the full cache",
        "What is forgotten to stay within a budget of tokens. docs/memory.md looks at it by age.",
    )
    clips = list(bench.material.clips(plan.clips, plan.frames))
    section.points += named("full cache", bench.streamed(section, 1.0, clips, bench.config()))
    whole = int(section.of("cache")[0].values[0])
    section.points += bench.native(section, 1.0, clips)
    for rule in ("window", "importance"):
        for share in plan.budgets:
            config = bench.config(eviction=rule, budget_tokens=round(share * whole))
            section.points += named(rule, bench.streamed(section, share, clips, config))
            first = section.of("first token", rule)[-1].median
            bench.say(f"{rule}, {share:g} of the full cache: first token {first:.1f} ms")
    if section.of("accuracy"):
        middle = min(plan.budgets, key=lambda b: abs(b - 0.5))
        percent = {r: section.at("accuracy", r, middle) for r in ("window", "importance")}
        said = ", ".join(f"{r} {p.median:.1f} %" for r, p in percent.items() if p is not None)
        section.findings.append(
            f"At {middle:g} of the full cache: {said}; the full cache "
            f"{section.of('accuracy', 'full cache')[0].median:.1f} %."
        )
    return section
