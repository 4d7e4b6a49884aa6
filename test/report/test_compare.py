"""Two reports against each other: noise is not a change, and a change is found."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from made_up import Maker, exact, made_up

from stream_vl_ros.bench import compare_noise
from stream_vl_ros.bench.compare import compare, main, usual_least
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
    assert changes(one(peak), one(more)) == []
    assert len(changes(one(replace(peak, unit="ms")), one(replace(more, unit="ms")))) == 1
    assert len(changes(one(peak), one(replace(peak, values=tuple(1.3 * v for v in peak.values))))) == 1
    little = replace(peak, values=tuple(v / 10 for v in peak.values))
    assert changes(one(little), one(replace(little, values=tuple(1.3 * v for v in little.values)))) == []


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
    assert "hardware differs" not in out


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
    assert usual_least(results, results) == least
    results.save(folders / "a")
    assert main([str(folders / "a"), str(folders / "a")]) == 0
    assert f"changed by {least:.0f}% or more" in capsys.readouterr().out
    assert main([str(folders / "a"), str(folders / "a"), "--least", "7"]) == 0
    assert "changed by 7% or more" in capsys.readouterr().out


def test_one_of_two_reports_of_a_cpu_is_enough():
    cpu, gpu = made_up(), made_up()
    cpu.environment, gpu.environment = {"kind": "cpu"}, {"kind": "cuda"}
    assert usual_least(cpu, gpu) == usual_least(gpu, cpu) == 20.0


def test_json_and_the_warning_about_hardware(folders, capsys):
    results = Results.load(folders / "slow")
    results.environment["device"] = "another [bold]one"
    results.save(folders / "slow")
    assert main([str(folders / "a"), str(folders / "slow"), "--json", str(folders / "c.json")]) == 0
    out = capsys.readouterr().out
    assert "The hardware differs" in out.splitlines()[0]
    assert "[bold]" in out
    record = json.loads((folders / "c.json").read_text())
    assert record["points"]["timed"] == 14
    assert {c["verdict"] for c in record["points"]["changes"]} == {"worse"}


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
