"""The fork bench, for real on short caches."""

from __future__ import annotations

import json

from stream_vl_ros.bench import forks


def test_forks_and_steps(tmp_path, capsys):
    report, picture = tmp_path / "forks.json", tmp_path / "forks.png"
    forks.main(["--lengths", "256", "1024", "--questions", "1", "3", "--json", str(report), "--plot", str(picture)])
    results = json.loads(report.read_text())["results"]
    assert [f["tokens"] for f in results["forks"]] == [256, 1024]
    assert results["forks"][1]["cache_mib"] == 4 * results["forks"][0]["cache_mib"]
    assert all(f["fork_bytes"] == 0 and f["fork_us"] > 0 for f in results["forks"])
    assert [(s["tokens"], s["questions"]) for s in results["steps"]] == [(256, 1), (256, 3), (1024, 1), (1024, 3)]
    assert all(s["together_ms"] > 0 and s["in_turn_ms"] > 0 for s in results["steps"])
    assert "side by side" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
