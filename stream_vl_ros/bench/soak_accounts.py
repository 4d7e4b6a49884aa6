"""The accounts of a soak at its end: the engine's books against those of the camera and the callers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stream_vl_ros.bench.soak_callers import PATIENCE, Tally
from stream_vl_ros.bench.soak_camera import Handed
from stream_vl_ros.bench.soak_records import Soak
from stream_vl_ros.bench.soak_truth import STANDING
from stream_vl_ros.engine import RunnerStatus
from stream_vl_ros.engine.counters import QuestionCounters

if TYPE_CHECKING:
    from stream_vl_ros.bench.soak_run import Soaking

# Lost by what was asked for, not by what was handed over: waiting frames of a memory that was left, and at the end.
ASKED_FOR = ("restore", "shutdown")


def accounts(soaking: Soaking, out: Soak) -> None:
    """End a soak, and write down what its books say."""
    started = [c for c in soaking.callers if c.ident is not None]
    for caller in started:
        caller.stop()
    for caller in started:
        caller.join(PATIENCE)
        soaking.tally.add(caller.tally)
    status = _settled(soaking)
    reports = {r.watch.name: r.events for r in soaking.runner.watches()}
    soaking.runner.close()
    closed = soaking.runner.status()
    handed, tally = soaking.camera.handed, soaking.tally
    out.accounts += [*of_frames(handed, status, closed), *of_questions(tally, status.questions)]
    out.accounts += [*_events(soaking, reports), *_rest(soaking, status)]
    out.counts = {
        "seconds": round(time.monotonic() - soaking.began, 1),
        "about the last seconds": {kind: dict(ends) for kind, ends in sorted(soaking.by_kind.items())},
        "frames": {n: getattr(status.frames, n) for n in ("received", "ingested", "skipped", "dropped", "waiting")},
        "drops": dict(closed.frames.drops),
        "jumps": {"back": status.jumps.back, "gaps": status.jumps.gaps},
        "chunks": status.chunks.count,
        "questions": {
            n: getattr(status.questions, n) for n in ("asked", "answered", "cancelled", "timed_out", "refused")
        },
        "ends as callers saw them": dict(soaking.tally.ends),
        "refused": soaking.tally.refused,
        "looks at standing questions": status.watch_times.count,
        "events": dict(soaking.standing.events),
        "standing questions judged": soaking.standing.judged,
        "memories gone back to": soaking.recalls,
        "frames forgotten": status.evicted.frames,
        "positions moved back": status.evicted.rebases,
        "problem": status.problem,
    }


def _settled(soaking: Soaking) -> RunnerStatus:
    """Once all that was handed over is in its place."""
    until = time.monotonic() + PATIENCE
    while True:
        status = soaking.runner.status()
        moving = status.frames.queued + status.frames.in_hand + status.questions.active
        if not moving or time.monotonic() > until or not soaking.runner.alive:
            return status
        time.sleep(0.01)


def of_frames(handed: Handed, status: RunnerStatus, closed: RunnerStatus) -> list[tuple[bool, str]]:
    """Whether every frame that the camera knows of is where it has to be, before and after the end."""
    frames = status.frames
    adds_up = frames.balanced and frames.received == handed.received and frames.skipped == handed.twins
    drops = {k: n for k, n in closed.frames.drops.items() if k not in ASKED_FOR}
    over = closed.frames.balanced and not closed.frames.waiting
    return [
        (
            adds_up,
            f"frames: {handed.received} handed over, {frames.received} received = {frames.ingested} ingested + "
            f"{frames.skipped} skipped + {frames.dropped} dropped + {frames.waiting} waiting; {handed.twins} came too "
            "soon",
        ),
        (drops == dict(handed.drops), f"unusable frames: {dict(handed.drops)} handed over, {drops} dropped"),
        (
            over,
            f"frames when it is over: {closed.frames.waiting} wait, {closed.frames.drops['shutdown']} dropped",
        ),
    ]


def of_questions(tally: Tally, found: QuestionCounters) -> list[tuple[bool, str]]:
    """Whether requests ended as their callers say."""
    # A caller may give up at the very moment at which its answer is done.
    answered = tally.ends["answered"] <= found.answered <= tally.ends["answered"] + tally.ends["cancelled"]
    taken = found.asked - found.refusals["busy"]
    adds_up = found.balanced and not found.active and taken == tally.asked == tally.ends.total()
    return [
        (
            adds_up and answered,
            f"questions: {found.asked} asked = {found.answered} answered + {found.cancelled} cancelled + "
            f"{found.timed_out} timed out + {found.refused} refused; {taken} were taken, and callers saw of "
            f"{tally.asked} {dict(sorted(tally.ends.items()))}",
        ),
        (not tally.wrong, f"requests that ended as they must not: {tally.wrong or 'none'}"),
    ]


def _events(soaking: Soaking, reports: dict[str, int]) -> list[tuple[bool, str]]:
    told = {w.name: soaking.standing.events[w.name] for w in STANDING}
    counted = {name: reports[name] for name in told}
    return [(told == counted, f"events of standing questions: {told} told, {counted} counted")]


def _rest(soaking: Soaking, status: RunnerStatus) -> list[tuple[bool, str]]:
    handed, jumps = soaking.camera.handed, status.jumps
    return [
        (
            (jumps.back, jumps.gaps) == (handed.back, handed.gaps),
            f"jumps of time: {handed.back} back and {handed.gaps} gaps made, {jumps.back} and {jumps.gaps} counted",
        ),
        (
            soaking.recalled_alike == soaking.recalls,
            f"memories gone back to: {soaking.recalls}, {soaking.recalled_alike} answered as when they were kept",
        ),
    ]
