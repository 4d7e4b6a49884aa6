"""The GPU benchmark on the CPU, with a tiny model: that it runs, and what it writes."""

from __future__ import annotations

import json

from stream_vl_ros.bench import gpu


def test_every_part_runs_on_the_cpu(tmp_path, capsys):
    target = tmp_path / "gpu.json"
    command = (
        "--shape tiny --device cpu --dtype float32 --chunks 0 1 --size 56 84 --max-pixels 4704 --repeats 2 --tokens 4 "
        f"--seconds 2 --sustained 1 --systems native plain modules engine live --json {target}"
    )
    gpu.main(command.split())
    samples = json.loads(target.read_text())["results"]["samples"]
    assert {s["system"] for s in samples} == {"native", "plain streaming", "engine, modules", "engine"}
    assert all(s["values"] for s in samples)
    assert [s["values"] for s in samples if s["what"].startswith("frames lost")] == [[0.0], [0.0]]
    assert "first token" in capsys.readouterr().out
