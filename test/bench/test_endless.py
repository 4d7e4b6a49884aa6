"""The endless bench, for real on minutes of stream time."""

from __future__ import annotations

import json

from stream_vl_ros.bench import endless
from stream_vl_ros.bench.endless_run import Endless, Sample


def test_minutes_of_it(tmp_path, capsys):
    report, picture = tmp_path / "endless.json", tmp_path / "endless.png"
    # The exit status is about 1 % of memory and 10 % of time, which a run this short does not settle.
    endless.main(["--hours", "0.09", "--json", str(report), "--plot", str(picture)])
    results = json.loads(report.read_text())["results"]
    samples = results["samples"]
    assert len(samples) == 10
    assert results["frames forgotten"] > 400
    assert results["rebases"] >= 2
    assert max(s["position"] for s in samples) < 192
    assert len({s["cache_mib"] for s in samples}) == 1
    assert sum(s["right"] for s in samples) > 0.95 * sum(s["asked"] for s in samples)
    assert "resident memory, end against after warm-up" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def made(**changed: list[float]) -> Endless:
    base = {
        "hours": 1.0,
        "chunk_ms": 10.0,
        "busy_ms": 10.0,
        "resident_mib": 900.0,
        "cache_mib": 1.0,
        "tokens": 9,
        "position": 9,
    }
    rows = [Sample(**base | {k: v[i] for k, v in changed.items()}, right=9, asked=9) for i in range(100)]
    return Endless(rows)


def test_what_grows_is_found():
    assert all(holds for holds, _ in endless.verdicts(made(), on_cpu=True))
    more = [10 + i / 50 for i in range(100)]
    for on_cpu, slower in ((True, made(busy_ms=more)), (False, made(chunk_ms=more))):
        assert [holds for holds, _ in endless.verdicts(slower, on_cpu=on_cpu)] == [True, False, True]
        assert all(holds for holds, _ in endless.verdicts(slower, on_cpu=not on_cpu))
    leaking = made(resident_mib=[900 + i / 5 for i in range(100)])
    assert [holds for holds, _ in endless.verdicts(leaking, on_cpu=True)] == [False, True, True]
