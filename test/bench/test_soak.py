"""The soak, for real on minutes of stream time; and that it notices what it is there to notice."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from stream_vl_ros.bench import soak
from stream_vl_ros.bench.eviction_age import seconds_back
from stream_vl_ros.bench.painted import SCENE_FRAMES
from stream_vl_ros.bench.soak_accounts import of_frames, of_questions
from stream_vl_ros.bench.soak_callers import Tally
from stream_vl_ros.bench.soak_camera import Handed
from stream_vl_ros.bench.soak_records import Limits, Sample, Soak
from stream_vl_ros.bench.soak_run import run
from stream_vl_ros.bench.soak_script import FPS, PARTS, PERIOD_NS, ROUND, begins
from stream_vl_ros.bench.soak_truth import RECENT_SECONDS, STANDING, Standing, Truth, recent_questions
from stream_vl_ros.engine import ChunkReport, RunnerStatus, VideoStream, WatchReport, load_model
from stream_vl_ros.engine.counters import ChunkTimes, FrameCounters, QuestionCounters
from stream_vl_ros.engine.memory.ledger import Evicted
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.world.scene import sample_scene

SHORT = Limits(memory=3.0, chunk=60.0, accuracy=10.0)
"""For runs whose warm-up is hardly over, on a machine that others use as well."""


@pytest.mark.slow
@pytest.mark.counts
def test_a_round_of_everything(tmp_path, capsys):
    report, picture = tmp_path / "soak.json", tmp_path / "soak.png"
    hours = (ROUND + 1) * SCENE_FRAMES / FPS / 3600
    limits = [f"--max-{name}={getattr(SHORT, name)}" for name in ("memory", "chunk", "accuracy")]
    status = soak.main([f"--hours={hours}", f"--json={report}", f"--plot={picture}", *limits])
    shown = capsys.readouterr().out
    assert status == 0, shown
    results = json.loads(report.read_text())["results"]
    assert len(results["samples"]) == ROUND + 1
    assert all(v["holds"] for v in results["verdicts"]), results["verdicts"]
    counts = results["counts"]
    assert counts["frames"]["ingested"] == (ROUND + 1) * SCENE_FRAMES - counts["drops"].get("restore", 0)
    assert counts["jumps"] == {"back": 1, "gaps": 1} and counts["memories gone back to"] == 1
    assert set(counts["ends as callers saw them"]) == {"answered", "cancelled", "timed out", "failed"}
    assert counts["refused"] > 10 and all(n > 0 for n in counts["events"].values())
    assert counts["standing questions judged"] > 400 and counts["looks at standing questions"] > 130
    assert sum(s["right"] for s in results["samples"]) > 0.95 * sum(s["asked"] for s in results["samples"]) > 80
    assert sum(s["standing_right"] for s in results["samples"]) > 0.97 * counts["standing questions judged"]
    assert "resident memory after warm-up moves by" in shown
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.counts
def test_a_leak_is_noticed_and_ctrl_c_leaves_what_was_measured(monkeypatch):
    kept, encode = [], VideoStream.encode_chunk

    def leaking(stream: VideoStream) -> ChunkReport | None:
        report = encode(stream)
        if report is not None:
            kept.append(np.ones(2 * MIB, np.uint8))
        return report

    def tick(sample: Sample, found: Soak) -> None:
        if len(found.samples) == 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(VideoStream, "encode_chunk", leaking)
    torch.set_num_threads(1)
    found = run(load_model("embedded", device="cpu", dtype="float32"), scenes_shown=1000, seed=1, tick=tick)
    assert found.interrupted and len(found.samples) == 4
    assert found.samples[-1].own_mib - found.samples[0].own_mib > 80 and len(kept) > 60
    broken = [sentence for holds, sentence in found.verdicts(replace(SHORT, memory=1.0)) if not holds]
    assert len(broken) == 1 and broken[0].startswith("resident memory"), broken


SAMPLE = Sample(
    hours=1.0,
    chunk_ms=10.0,
    chunks=16,
    resident_mib=900.0,
    peak_mib=905.0,
    own_mib=500.0,
    pinned_mib=3.0,
    tokens=300,
    forks=2,
    threads=10,
    files=15,
    right=12,
    asked=12,
    standing_right=60,
    standing=60,
    answers=30,
)


def made(**changed: list[float]) -> Soak:
    return Soak([replace(SAMPLE, **{k: v[i] for k, v in changed.items()}) for i in range(120)])


@pytest.mark.parametrize(
    ("name", "values", "which"),
    [
        ("resident_mib", [900 + i / 9 for i in range(120)], 0),
        ("chunk_ms", [10 + i / 80 for i in range(120)], 1),
        ("right", [12 if i < 80 or i % 3 else 11 for i in range(120)], 2),
        ("standing_right", [60 if i < 80 else 58 for i in range(120)], 3),
        ("threads", [10 + i // 60 for i in range(120)], 4),
        ("files", [15 + i // 60 for i in range(120)], 5),
        ("forks", [2 + i // 50 for i in range(120)], 6),
    ],
)
def test_what_moves_is_found(name, values, which):
    assert all(holds for holds, _ in made().verdicts(Limits()))
    verdicts = made(**{name: values}).verdicts(Limits())
    assert [i for i, (holds, _) in enumerate(verdicts) if not holds] == [which]


@pytest.mark.parametrize(("asked", "wrong", "holds"), [(3, 1, True), (3, 2, False), (600, 12, True), (600, 13, False)])
def test_one_answer_may_be_wrong_or_two_points(asked, wrong, holds):
    thirds = [(asked, asked), (asked, asked), (asked - wrong, asked)]
    samples = [replace(SAMPLE, right=right, asked=count) for right, count in thirds]
    _, _, found, *_ = Soak(samples).verdicts(Limits())
    assert found[0] is holds


def test_what_happens_while_warming_up_does_not_count():
    cold = made(resident_mib=[800.0 + min(i, 11) * 5 for i in range(120)], chunk_ms=[9.0] * 11 + [10.0] * 109)
    assert all(holds for holds, _ in cold.verdicts(Limits()))


def status(frames: FrameCounters) -> RunnerStatus:
    return RunnerStatus(frames, QuestionCounters(), ChunkTimes(), 0, 0, Evicted(), None, 0, 0, "")


def test_a_frame_that_is_lost_is_noticed():
    handed = Handed(received=10, twins=1, drops=Counter(bad_array=2))
    right = FrameCounters(received=10, pending=1, ingested=6, skipped=1, drops=Counter(bad_array=2))
    closed = FrameCounters(received=10, ingested=6, skipped=1, drops=Counter(bad_array=2, shutdown=1))
    assert [holds for holds, _ in of_frames(handed, status(right), status(closed))] == [True, True, True]
    for lost, expected in (
        ({"ingested": 5}, [False, True, True]),
        ({"received": 9, "ingested": 5}, [False, True, True]),
        ({"skipped": 0, "ingested": 7}, [False, True, True]),
    ):
        assert [holds for holds, _ in of_frames(handed, status(replace(right, **lost)), status(closed))] == expected
    other = replace(closed, drops=Counter(bad_array=1, encode_error=1, shutdown=1))
    assert [holds for holds, _ in of_frames(handed, status(right), status(other))] == [True, False, True]
    waits = replace(closed, pending=1, drops=Counter(bad_array=2))
    assert [holds for holds, _ in of_frames(handed, status(right), status(waits))] == [True, True, False]


def counted(answered: int, cancelled: int, broken: int, busy: int = 7, asked: int = 0) -> QuestionCounters:
    """Counters that add up, unless `asked` says otherwise."""
    refusals = Counter({"busy": busy, "engine_error": broken})
    return QuestionCounters(asked or answered + cancelled + broken + busy, 0, answered, cancelled, 0, refusals)


def test_a_question_that_ends_otherwise_is_noticed():
    tally = Tally(asked=5, ends=Counter({"answered": 3, "cancelled": 1, "failed": 1}))
    assert [holds for holds, _ in of_questions(tally, counted(3, 1, 1))] == [True, True]
    assert [holds for holds, _ in of_questions(tally, counted(4, 0, 1))] == [True, True]  # given up as it came
    for counters in (counted(3, 2, 1), counted(2, 2, 1), counted(5, 0, 0), counted(3, 1, 1, asked=13)):
        assert [holds for holds, _ in of_questions(tally, counters)] == [False, True]
    assert [holds for holds, _ in of_questions(replace(tally, asked=6), counted(3, 2, 1))] == [False, True]
    tally.wrong.append("an answer where there had to be none")
    assert [holds for holds, _ in of_questions(tally, counted(3, 1, 1))] == [True, False]


def test_no_two_frames_have_one_stamp():
    seen, last = set(), 0
    for number in range(20 * ROUND):
        first = begins(number, last)
        last = first + (SCENE_FRAMES - 1) * PERIOD_NS
        seen |= set(range(first, last + 1, PERIOD_NS))
    assert len(seen) == 20 * ROUND * SCENE_FRAMES


def test_everything_happens_in_a_round():
    assert {p.jump for p in PARTS} == {"", "gap", "back"}
    assert {p.memory for p in PARTS} == {"", "keep", "recall", "discard"}
    assert all(any(getattr(p, name) for p in PARTS) for name in ("other", "remember", "spoil", "passing"))


def test_questions_are_about_the_last_seconds_of_their_scene():
    kinds = set()
    for number in range(30):
        shown = sample_scene(random.Random(number), SCENE_FRAMES, FPS)
        for now in (17, 40, 63):
            for q in recent_questions(random.Random(number), shown, now, 4):
                age = seconds_back(q, shown, now)
                assert age is not None and age <= min(RECENT_SECONDS, shown.seconds(now) - 1)
                kinds.add(q.kind)
    assert {"last", "gone", "still_there", "left_view", "color_change", "visible"} <= kinds


def test_a_standing_question_that_stands_wrong_is_noticed():
    shown = sample_scene(random.Random(3), SCENE_FRAMES, FPS, mode="still")
    truth = Truth()
    truth.show(1000, shown, 40)
    for watch in STANDING:
        holds = truth.holds(watch.name, 1000)
        assert holds is not None
        for firing in (True, False):
            standing = Standing(truth)
            standing.look([WatchReport(watch, firing, (0.0, -9.0), 0.9, 1000, 1, "")] * 2)
            assert (standing.judged, standing.right) == (1, int(firing == holds))
