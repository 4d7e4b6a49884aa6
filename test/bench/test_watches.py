"""The bench of standing questions, for real on a few chunks."""

from __future__ import annotations

import json

from stream_vl_ros.bench import watches


def test_costs(tmp_path, capsys):
    report = tmp_path / "watches.json"
    watches.main(["--watches", "1", "3", "--chunks", "3", "--json", str(report)])
    results = json.loads(report.read_text())["results"]["watches"]
    assert [r["watches"] for r in results] == [1, 3]
    for r in results:
        assert r["look_ms"] > 0 and r["one_by_one_ms"] > 0
        assert r["of_a_chunk"] == r["look_ms"] / r["chunk_ms"]
    assert results[0]["chunk_tokens"] == 32 and results[1]["question_tokens"] > results[0]["question_tokens"]
    assert "of a chunk" in capsys.readouterr().out
