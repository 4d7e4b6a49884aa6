"""Both sides over the length of the video, its frame rate and its resolution."""

from __future__ import annotations

from stream_vl_ros.report.bench import Bench
from stream_vl_ros.report.findings import first_in_words, growth_in_words
from stream_vl_ros.report.material import LONGEST
from stream_vl_ros.report.results import Section


def length(bench: Bench) -> Section:
    plan = bench.plan
    cap = f" Either may allocate {plan.curve_cap:g} MiB beyond what is held." if plan.curve_cap else ""
    section = Section(
        "length",
        "Length of the video",
        "frames",
        f"Questions at the end of videos of different lengths, by both sides.{cap}"
        + (f" Beyond {LONGEST} frames a clip repeats, and accuracy is not counted." if bench.material.known else ""),
    )
    alive = True
    for frames in plan.lengths:
        clips = list(bench.material.clips(plan.clips if frames <= LONGEST else 1, frames))
        section.points += bench.streamed(section, frames, clips, bench.config(), plan.curve_cap)
        natively = bench.native(section, frames, clips, plan.curve_cap) if alive else []
        section.points += natively
        alive = bool(natively)
        bench.say(f"{frames} frames: {first_in_words(section, frames)}")
    section.findings += growth_in_words(section)
    if not alive:
        ends = [max((p.x for p in section.of("first token", s)), default=0) for s in ("native", "stream")]
        section.findings.append(f"Native inference ends at {ends[0]:g} frames here; streaming went on to {ends[1]:g}.")
    return section


def rate(bench: Bench) -> Section:
    plan = bench.plan
    section = Section(
        "fps",
        "Frame rate",
        "frames per second",
        f"Videos of {plan.duration:g} seconds at different rates: more frames of the same time.",
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
        section.points += bench.streamed(section, side, clips, bench.config())
        section.points += bench.native(section, side, clips)
        bench.say(f"{side} pixels: {first_in_words(section, side)}")
    section.findings += growth_in_words(section)
    return section
