"""The exactness bench, for real on some pairs, on the toy world and on real footage."""

from __future__ import annotations

import json

import torch

from stream_vl_ros.bench import exactness
from stream_vl_ros.bench.exactness import Noise
from stream_vl_ros.bench.native import NativeModel

ARGS = ("--threads", "1", "--tokens", "6")


def test_no_pair_differs(footage, tmp_path, capsys):
    clips = [str(footage(name)) for name in ("vtest", "bikes", "carphone", "bigbuckbunny")]
    report = tmp_path / "exactness.json"
    status = exactness.main([*ARGS, "--pairs", "192", "--half-clips", "4", "--footage", *clips, "--json", str(report)])
    out = capsys.readouterr().out
    assert status == 0, out
    assert "192 pairs, 0 mismatches" in out
    results = json.loads(report.read_text())["results"]
    assert len(results["float32"]) == 6
    for kinds in results["float32"].values():
        assert kinds["footage"]["pairs"] >= 15
        assert kinds["toy world"]["pairs"] >= 15
        assert all(k["same"] == k["pairs"] and k["largest"] < 1e-4 for k in kinds.values())
    for found in results["bfloat16"].values():
        assert 0 < found["engine"]["rms"] <= 1.25 * max(found["sdpa"]["rms"], found["eager"]["rms"])


def test_another_model_is_noticed(monkeypatch, tmp_path, capsys):
    """The native side gets other weights: every pair has to differ, and the exit status to say so."""

    class Other(NativeModel):
        def __init__(self, folder: str, **options) -> None:
            super().__init__(folder, **options)
            with torch.no_grad():
                self.model.lm_head.weight.add_(0.01 * torch.randn_like(self.model.lm_head.weight))

    monkeypatch.setattr(exactness, "NativeModel", Other)
    assert exactness.main([*ARGS, "--pairs", "5", "--models", "random qwen2_5_vl", "--half", "none"]) == 1
    assert "5 pairs, 5 mismatches" in capsys.readouterr().out


def test_noise_is_judged_by_natives():
    exact, noise = torch.zeros(8), Noise()
    for name, error in (("engine", 0.2), ("sdpa", 0.1), ("eager", 0.17)):
        noise.add(name, torch.full((8,), error), exact)
    assert noise.within
    noise.add("engine", torch.full((8,), 0.4), exact)
    assert not noise.within
