"""Two reports against each other: noise is not a change, and a change is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import Maker, exact, made_up

from stream_vl_ros.bench import compare_noise
from stream_vl_ros.bench.compare import ON_CPU, ON_GPU, compare, main, usual_limits
from stream_vl_ros.bench.compare_better import verdict
from stream_vl_ros.bench.compare_noise import Limits, difference
from stream_vl_ros.bench.compare_rest import environments
from stream_vl_ros.report.results import Point, Results, Rung, Said, Section

LIMITS = Limits()


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(compare_noise, "RESAMPLES", 2000)


def one(*points: Point, **more) -> Results:
    return Results({}, "m", [Section("s", "S", "frames", "", points=list(points), **more)])


def changes(before: Results, after: Results, limits: Limits = LIMITS):
    return compare(before, after, limits).points.changes


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(("noise", "repeats"), [(0.03, 5), (0.1, 5), (0.1, 10), (0.1, 3)])
def test_few_false_alarms(noise, repeats):
    make = Maker(seed=repeats, noise=noise)
    alarms = 0
    for _ in range(200):
        a, b = (make.timed("stream", "total", 1, 50, repeats).values for _ in range(2))
        alarms += difference(a, b, LIMITS).beyond
    assert alarms <= 8  # of 200, where 2 are expected


@pytest.mark.usefixtures("_quick")
def test_the_interval_alone_bounds_false_alarms_of_many_repeats():
    rng = np.random.default_rng(5)
    strict = Limits(least=0.0, least_single=0.0)
    alarms = sum(
        difference(rng.lognormal(0, 0.1, 12).tolist(), rng.lognormal(0, 0.1, 12).tolist(), strict).beyond
        for _ in range(200)
    )
    assert alarms <= 8


@pytest.mark.usefixtures("_quick")
def test_a_slowdown_of_ten_percent_is_found():
    found = 0
    for seed in range(20):
        before, after = made_up(seed), made_up(seed + 100, slower=1.1)
        slower = [c for c in changes(before, after) if c.timed]
        assert all(c.verdict == "worse" and c.low <= c.change <= c.high for c in slower)
        found += len(slower)
    assert found > 0.85 * 20 * 14


@pytest.mark.usefixtures("_quick")
def test_the_same_report_and_its_noise_change_nothing():
    assert changes(made_up(), made_up()) == []
    assert sum(len(changes(made_up(seed), made_up(seed + 50))) for seed in range(10)) <= 3


def test_a_change_below_the_least_is_not_shown():
    steady = Point("stream", "total", "ms", 1, tuple(100 + 0.01 * i for i in range(9)), timed=True)
    slower = replace(steady, values=tuple(1.04 * v for v in steady.values))
    assert changes(one(steady), one(slower)) == []
    (found,) = changes(one(steady), one(slower), Limits(least=0.03))
    assert found.change == pytest.approx(0.04)


@pytest.mark.parametrize(("factor", "shown"), [(1.19, False), (1.21, True), (0.81, False), (0.79, True)])
@pytest.mark.parametrize("repeats", [1, 3])
def test_few_values_need_a_larger_change(factor, shown, repeats):
    before = Point("stream", "total", "ms", 1, (100.0,) * repeats, timed=True)
    after = replace(before, values=(100.0 * factor,) * repeats)
    assert bool(changes(one(before), one(after))) == shown


def test_zeros_do_not_divide():
    zero = Point("idle", "first token", "ms", 1, (0.0,) * 5, timed=True)
    (found,) = changes(one(zero), one(replace(zero, values=(3.0,) * 5)))
    assert (found.change, found.verdict) == (1.0, "worse")
    assert changes(one(zero), one(zero)) == []


def test_what_a_search_looks_at_once_is_not_compared():
    looked = Point("idle", "backlog at the end", "frames", 33.5, (0.0,), timed=True)
    assert changes(one(looked), one(replace(looked, values=(4.0,)))) == []
    assert compare(one(looked), one(replace(looked, x=34.0)), Limits()).points.only_after == []


def test_memory_of_a_process_needs_more_to_have_changed():
    peak = Point("stream", "peak memory", "MiB", 8, tuple(100.0 + i / 100 for i in range(9)), timed=True)
    more = replace(peak, values=tuple(1.1 * v for v in peak.values))
    assert changes(one(peak), one(more), ON_CPU) == []
    limits = replace(ON_CPU, least=0.05)
    assert len(changes(one(replace(peak, unit="ms")), one(replace(more, unit="ms")), limits)) == 1
    assert len(changes(one(peak), one(replace(peak, values=tuple(1.3 * v for v in peak.values))), ON_CPU)) == 1
    little = replace(peak, values=tuple(v / 10 for v in peak.values))
    assert changes(one(little), one(replace(little, values=tuple(1.3 * v for v in little.values))), ON_CPU) == []


@pytest.mark.parametrize("repeats", [1, 3, 9])
@pytest.mark.parametrize(
    ("before", "after", "found"),
    [(1000.0, 1180.0, "worse"), (1000.0, 850.0, "better"), (1000.0, 1009.0, None), (10.0, 11.9, None)],
)
def test_memory_of_a_gpu_is_what_its_allocator_says(repeats, before, after, found):
    peak = Point("stream", "peak memory", "MiB", 8, (before,) * repeats, timed=True)
    verdicts = [c.verdict for c in changes(one(peak), one(replace(peak, values=(after,) * repeats)), ON_GPU)]
    assert verdicts == ([found] if found else [])


def test_where_a_report_lies_is_no_setting():
    a, b = made_up(), made_up()
    b.environment = a.environment | {"settings": a.environment["settings"] | {"name": "b", "out": "/elsewhere"}}
    assert environments(a, b) == []


def test_one_byte_is_found():
    before, after = (exact("stream", "cache", "bytes", 8, v) for v in (123456789.0, 123456790.0))
    (found,) = changes(one(before), one(after))
    assert (found.before, found.after, found.verdict) == (123456789.0, 123456790.0, "worse")
    assert changes(one(before), one(replace(before, values=(123456789.0 * (1 + 1e-12),)))) == []


def test_another_unit_is_a_change_without_direction():
    before = exact("stream", "cache", "bytes", 8, 5)
    (found,) = changes(one(before), one(replace(before, unit="MiB")))
    assert (found.verdict, found.unit) == ("changed", "bytes, then MiB")


def test_odd_values_compare():
    nan = exact("stream", "cache", "bytes", 8, float("nan"))
    assert changes(one(nan), one(nan)) == []
    assert [c.verdict for c in changes(one(exact("stream", "cache", "bytes", 8, 1.0)), one(nan))] == ["changed"]
    assert len(changes(one(nan), one(exact("stream", "cache", "bytes", 8, 1.0)))) == 1
    assert len(changes(one(replace(nan, timed=True)), one(exact("stream", "cache", "bytes", 8, 1.0)))) == 1


@pytest.mark.parametrize(
    ("measure", "unit", "more"),
    [
        ("first token", "ms", "worse"),
        ("peak memory", "MiB", "worse"),
        ("bytes per token", "bytes", "worse"),
        ("lost", "frames", "worse"),
        ("decode", "tokens/s", "better"),
        ("highest rate", "frames/s", "better"),
        ("answers", "answers/s", "better"),
        ("accuracy", "%", "better"),
        ("cache tokens", "", "changed"),
    ],
)
def test_direction(measure, unit, more):
    less = {"worse": "better", "better": "worse", "changed": "changed"}[more]
    assert verdict(measure, unit, 1.0, 2.0) == more
    assert verdict(measure, unit, 2.0, 1.0) == less


def test_points_of_only_one_report_are_listed():
    a, b = exact("stream", "cache", "bytes", 8, 1), exact("stream", "cache", "bytes", 16, 1)
    found = compare(one(a), one(b), LIMITS).points
    assert (found.only_before, found.only_after) == ([("s", "stream", "cache", 8)], [("s", "stream", "cache", 16)])
    assert found.changes == []


def test_answers_and_attempts():
    said = Said("8 frames", "What?", "a", "a", True)
    rung = Rung("8 frames", "native", 1, 8, True, "after 5 ms")
    same = one(said=[said], rungs=[rung])
    other = one(said=[replace(said, stream="b", identical=False)], rungs=[replace(rung, ran=False, words="no")])
    assert not compare(same, one(said=[said], rungs=[replace(rung, words="after 6 ms")]), LIMITS).attempts
    found = compare(same, other, LIMITS)
    assert [(d.what, d.before, d.after, d.verdict) for d in found.answers] == [
        ("answer, stream", "a", "b", "changed"),
        ("comparison", "identical", "different", "worse"),
    ]
    assert [(d.what, d.before, d.after, d.verdict) for d in found.attempts] == [
        ("attempt, native", "ran, 8 frames", "FAILED, 8 frames", "worse")
    ]
    assert found.worse == 2
    assert compare(other, same, LIMITS).worse == 0
    assert len(compare(same, one(), LIMITS).answers) == 1
    assert len(compare(same, one(), LIMITS).attempts) == 1


def test_on_what_the_reports_were_made():
    before, after = made_up(), made_up()
    after.environment = {**after.environment, "device": "another", "date": "later", "settings": {"repeats": 9}}
    after.model = "b"
    found = {d.what: d.after for d in compare(before, after, LIMITS).environment}
    assert found == {"device": "another", "model": "b", "setting repeats": "9"}


@pytest.fixture
def folders(tmp_path):
    for name, slower in (("a", 1.0), ("slow", 1.3)):
        (tmp_path / name).mkdir()
        made_up(slower=slower).save(tmp_path / name)
    return tmp_path


def test_exit_status_and_console(folders, capsys):
    a, slow = str(folders / "a"), str(folders / "slow" / "results.json")
    assert main([a, slow]) == 0
    assert main([a, slow, "--fail"]) == 1
    assert main([slow, a, "--fail"]) == 0
    assert main([a, a, "--fail"]) == 0
    assert main([a, slow, "--fail", "--least", "40"]) == 0
    out = capsys.readouterr().out
    assert "first token" in out
    assert "worse" in out
    assert "reports differ in" not in out


def saved(folder: Path, results: Results) -> str:
    folder.mkdir()
    results.save(folder)
    return str(folder)


def test_a_gpus_memory_that_rose_by_a_sixth_fails(tmp_path, capsys):
    h100 = Path(__file__).parents[2] / "docs" / "reports" / "h100"
    more, points = Results.load(h100), 0
    for section in more.sections:
        for i, p in enumerate(section.points):
            if p.measure in {"peak memory", "memory growth"}:
                section.points[i] = replace(p, values=tuple(1.18 * v for v in p.values))
                points += 1
    assert points == 65
    args = [str(h100), saved(tmp_path / "more", more), "--fail"]
    assert main(args) == 1
    assert f"{points} got worse" in capsys.readouterr().out
    assert main([*args, "--least-memory", "19"]) == 0


def failed_in(name: str, results: Results) -> Results:
    reason = "This part failed: CUDA [out] of memory"
    results.sections = [
        Section(name, name, "", "", [reason], failed=True) if s.name == name else s for s in results.sections
    ]
    return results


def test_a_part_that_fails_is_worse_and_named_with_its_reason(tmp_path, capsys):
    good, bad = saved(tmp_path / "a", made_up()), saved(tmp_path / "b", failed_in("length", made_up()))
    assert main([good, bad, "--fail"]) == 1
    out = capsys.readouterr().out
    assert "1 part stopped or started to work; 1 got worse" in out
    (line,) = (line for line in out.splitlines() if "CUDA [out] of memory" in line)
    assert "length" in line and "worse" in line
    assert main([bad, good, "--fail"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "CUDA [out] of memory" in line)
    assert "better" in line
    assert main([bad, bad, "--fail"]) == 0


def test_a_report_that_ended_before_a_part_is_worse(tmp_path):
    whole, cut, less = made_up(), made_up(), made_up()
    asked = [s.name for s in whole.sections]
    whole.environment = cut.environment = whole.environment | {"settings": {"sections": asked}}
    less.environment = whole.environment | {"settings": {"sections": asked[:-1]}}
    cut.sections, less.sections = cut.sections[:-1], less.sections[:-1]
    found = [(d.where, d.before, d.after, d.verdict) for d in compare(whole, cut, LIMITS).parts]
    assert found == [(asked[-1], "ran", "not there", "worse")]
    assert [d.verdict for d in compare(cut, whole, LIMITS).parts] == ["better"]
    assert compare(whole, less, LIMITS).parts == []
    assert main([saved(tmp_path / "whole", whole), saved(tmp_path / "cut", cut), "--fail"]) == 1


def other(environment: dict[str, object], model: str = "m", slower: float = 1.3) -> Results:
    results = made_up(slower=slower)
    results.environment, results.model = results.environment | environment, model
    return results


@pytest.mark.parametrize(
    ("results", "named"),
    [
        (other({"device": "another"}), "device 'A processor (2 cores)' and 'another'"),
        (other({"threads": 3}), "threads '2' and '3'"),
        (other({"dtype": "bfloat16"}), "dtype 'float32' and 'bfloat16'"),
        (other({"settings": {"shape": "7b"}}), "setting shape '3b' and '7b'"),
        (other({}, model="n"), "model 'm' and 'n'"),
    ],
)
def test_what_was_made_on_another_machine_or_model_is_neither_better_nor_worse(tmp_path, capsys, results, named):
    if "shape" not in results.environment["settings"]:
        results.environment = results.environment | {"settings": {"shape": "3b"}}
    results.environment = {"dtype": "float32"} | results.environment
    here = other({"dtype": "float32", "settings": {"shape": "3b"}}, slower=1.0)
    found = compare(here, results, LIMITS)
    assert {c.verdict for c in found.points.changes} == {"changed"}
    a, b = saved(tmp_path / "a", here), saved(tmp_path / "b", results)
    assert main([a, b]) == 0
    assert main([a, b, "--fail"]) == 2
    assert f"these reports do not compare: {named}. " in capsys.readouterr().err
    assert main([a, b, "--fail", "--across"]) == 0


def test_across_machines_accuracy_answers_and_parts_still_fail(tmp_path):
    a = saved(tmp_path / "a", other({}))
    lower, differs, attempt = (other({"device": "another"}) for _ in range(3))
    section = lower.section("length")
    section.points = [replace(p, values=(p.values[0] - 1,)) if p.measure == "accuracy" else p for p in section.points]
    pair = differs.section("pair")
    pair.said = [replace(s, identical=False) if s.identical else s for s in pair.said]
    ladder = attempt.section("length")
    ladder.rungs = [replace(r, ran=False) for r in ladder.rungs]
    failed = failed_in("memory", other({"device": "another"}))
    wanted = (("lower", lower, 1), ("differs", differs, 1), ("failed", failed, 1), ("attempt", attempt, 0))
    for name, results, status in wanted:
        assert main([a, saved(tmp_path / name, results), "--fail", "--across"]) == status, name


def test_what_only_a_later_report_tells_does_not_keep_it_from_comparing(tmp_path):
    a, b = saved(tmp_path / "a", other({})), saved(tmp_path / "b", other({"dtype": "float32"}))
    assert main([a, b, "--fail"]) == main([b, a, "--fail"]) == 0


def test_reports_without_a_common_part_do_not_pass(tmp_path, capsys):
    a, b = made_up(), made_up()
    a.sections, b.sections = a.sections[:2], b.sections[2:]
    args = [saved(tmp_path / "a", a), saved(tmp_path / "b", b)]
    assert main(args) == 0
    assert main([*args, "--fail"]) == 2
    assert "no part in common" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "least"),
    [
        ({"kind": "cpu", "device": "of a name"}, 20.0),
        ({"kind": "cuda", "device": "NVIDIA of 4 cores"}, 5.0),
        ({"device": "AMD EPYC (2 cores)"}, 20.0),
        ({"device": "NVIDIA H100 80GB HBM3"}, 5.0),
        ({}, 5.0),
    ],
)
def test_a_cpu_is_taken_to_vary_more(environment, least, folders, capsys):
    results = made_up()
    results.environment = environment
    assert usual_limits(results, results).least == least / 100
    results.save(folders / "a")
    assert main([str(folders / "a"), str(folders / "a")]) == 0
    assert f"changed by {least:.0f}% or more" in capsys.readouterr().out
    assert main([str(folders / "a"), str(folders / "a"), "--least", "7"]) == 0
    assert "changed by 7% or more" in capsys.readouterr().out


def test_one_of_two_reports_of_a_cpu_is_enough():
    cpu, gpu = made_up(), made_up()
    cpu.environment, gpu.environment = {"kind": "cpu"}, {"kind": "cuda"}
    assert usual_limits(cpu, gpu) == usual_limits(gpu, cpu) == ON_CPU


def test_json_and_the_warning_about_hardware(folders, capsys):
    results = Results.load(folders / "slow")
    results.environment["device"] = "another [bold]one"
    results.save(folders / "slow")
    assert main([str(folders / "a"), str(folders / "slow"), "--json", str(folders / "c.json")]) == 0
    out = capsys.readouterr().out
    assert "The reports differ in device" in out.splitlines()[0]
    assert "[bold]" in out
    record = json.loads((folders / "c.json").read_text())
    assert record["points"]["timed"] == 14
    assert {c["verdict"] for c in record["points"]["changes"]} == {"changed"}
    assert [d["what"] for d in record["unlike"]] == ["device"]


def test_what_is_no_report_is_a_clear_error(folders, capsys):
    (folders / "x.json").write_text("{}")
    assert main([str(folders / "a"), str(folders / "x.json")]) == 2
    assert main([str(folders / "a"), str(folders / "nothing")]) == 2
    assert main([str(folders / "a"), str(folders / "a"), "--json", str(folders / "no" / "c.json")]) == 2
    errors = capsys.readouterr().err
    assert "x.json is not the results of a report" in errors
    assert "cannot be read" in errors
    assert "cannot be written" in errors
    with pytest.raises(SystemExit):
        main([str(folders / "a"), str(folders / "a"), "--least", "-1"])
