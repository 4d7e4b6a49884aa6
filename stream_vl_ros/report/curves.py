"""Both sides over the length of the video, its frame rate and its resolution."""

from __future__ import annotations

from stream_vl_ros.bench.eviction_runs import full_cache
from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.findings import first_in_words, growth_in_words, sums_in_words
from stream_vl_ros.report.material import LONGEST
from stream_vl_ros.report.points import INGEST, named
from stream_vl_ros.report.results import Section
from stream_vl_ros.report.words import under_cap

WINDOWED = f"stream, last {LONGEST} frames"


def length(bench: Bench) -> Section:
    plan = bench.plan
    cap = f" Either may allocate {plan.curve_cap:g} MiB beyond what is held." if plan.curve_cap else ""
    section = Section(
        "length",
        "Length of the video",
        "frames",
        f"Questions at the end of videos of different lengths, by both sides.{cap} {INGEST} Memory is "
        f"{bench.sides.gauge.means}, beyond what was held before."
        + (
            f" Beyond {LONGEST} frames, the longest that the embedded model was trained on, a clip repeats to its end "
            f"and the questions are of its last scene; {WINDOWED!r} has a budget for so many and forgets the oldest."
            if bench.material.known
            else ""
        ),
    )
    window = full_cache(bench.sides.loaded, LONGEST, bench.material.size, bench.sides.max_pixels)
    alive = True
    for frames in plan.lengths:
        clips = list(bench.material.clips(plan.clips if frames <= LONGEST else max(1, plan.clips // 2), frames))
        section.points += bench.streamed(section, frames, clips, bench.config(), plan.curve_cap)
        if bench.material.known:
            config = bench.config(eviction="window", budget_tokens=window)
            section.points += named(WINDOWED, bench.streamed(section, frames, clips, config, plan.curve_cap))
        natively = bench.native(section, frames, clips, plan.curve_cap) if alive else []
        section.points += natively
        alive = bool(natively)
        bench.say(f"{frames} frames: {first_in_words(section, frames)}")
    if not section.points:
        raise ReportError(
            f"no side had memory enough for {min(plan.lengths)} frames with a cap of {plan.curve_cap:g} MiB; give more"
        )
    section.findings += growth_in_words(section) + sums_in_words(section)
    if not alive:
        ends = [max((p.x for p in section.of("first token", s)), default=0) for s in ("native", "stream")]
        section.findings.append(
            f"Native inference ends at {ends[0]:g} frames here{under_cap(plan.curve_cap)}; "
            f"streaming went on to {ends[1]:g}."
        )
    section.findings += _beyond_in_words(section)
    return section


def _beyond_in_words(section: Section) -> list[str]:
    """Accuracy at the longest video that native reached, and at the longest of all."""
    ends = [p.x for s in ("native", "stream") for p in section.of("accuracy", s)[-1:]]
    said = []
    for x in sorted({x for x in ends if x > LONGEST}):
        some = [(s, section.at("accuracy", s, x)) for s in ("stream", "native", WINDOWED)]
        said.append(
            f"Accuracy at {x:g} frames, of the last scene: "
            + ", ".join(f"{s} {p.median:.0f} %" if p else f"{s} does not get there" for s, p in some)
            + "."
        )
    return said


def rate(bench: Bench) -> Section:
    plan = bench.plan
    section = Section(
        "fps",
        "Frame rate",
        "frames per second",
        f"Videos of {plan.duration:g} seconds at different rates: more frames of the same time. {INGEST}",
    )
    for fps in plan.rates:
        clips = list(bench.material.clips(plan.clips, max(4, round(plan.duration * fps)), fps=fps))
        section.points += bench.streamed(section, fps, clips, bench.config())
        section.points += bench.native(section, fps, clips)
        bench.say(f"{fps:g} fps: {first_in_words(section, fps)}")
    section.findings += growth_in_words(section)
    return section


def resolution(bench: Bench) -> Section:
    section = Section(
        "resolution",
        "Resolution",
        "pixels per side",
        "Square pictures of the camera's size; the checkpoint scales what is larger than it was made for.",
    )
    for side in bench.plan.sides:
        clips = list(bench.material.clips(bench.plan.clips, bench.plan.frames, size=(side, side)))
        bench.settle_in(clips[0])
        section.points += bench.streamed(section, side, clips, bench.config())
        section.points += bench.native(section, side, clips)
        bench.say(f"{side} pixels: {first_in_words(section, side)}")
    section.findings += growth_in_words(section)
    return section
