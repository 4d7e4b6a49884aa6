"""What docs/reliability.md says is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| **")]


def results(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "reports" / name).read_text())["results"]


def quoted(promise: str) -> str:
    (row,) = [row for row in ROWS if promise in row[0]]
    return row[2]


def test_the_table_has_its_rows():
    assert len(ROWS) > 20 and {len(row) for row in ROWS} == {3}


@pytest.mark.parametrize("row", ROWS, ids=[re.sub(r"\W+", "_", row[0])[:40] for row in ROWS])
def test_tests_that_are_named_exist(row):
    """A name without a folder is in that of the one before it."""
    folder = ROOT
    for name in re.findall(r"`([\w/.*]+(?:\.py|/))`", row[1]):
        path = name if "/" in name else f"{folder}/{name}"
        folder = Path(path).parent
        assert list(ROOT.glob(path.rstrip("/"))), f"{path} is not there"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([\w/.-]+)(?:#[\w-]+)?\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_figures_are_those_of_the_reports():
    exact, forks, endless = results("exactness.json"), results("forks.json")["forks"], results("endless.json")
    largest = max(some["largest"] for pairs in exact["float32"].values() for some in pairs.values())
    assert f"{exact['pairs']} of {exact['pairs']} pairs" in quoted("Exact.") and not exact["mismatches"]
    assert f"{largest:.1e}".replace("e-0", "e-") in quoted("Exact.")
    first, last = ({f["tokens"]: f for f in forks}[n] for n in (1024, 65536))
    assert f"{first['fork_us']:.0f} us at 1,024 tokens, {last['fork_us']:.0f} us at 65,536" in quoted("costs nothing")
    memory = endless["resident memory, end / after warm-up"]
    busy = endless["processor time of a chunk, last 5 % / first 5 % after warm-up"]
    assert f"{memory:.4f}" in quoted("Bounded memory") and f"{busy:.3f}" in quoted("Bounded memory")


def test_the_soak_held_and_its_figures_are_told():
    soak = results("soak.json")
    assert all(v["holds"] for v in soak["verdicts"]), soak["verdicts"]
    counts, frames, questions = soak["counts"], soak["counts"]["frames"], soak["counts"]["questions"]
    told = PAGE.replace(",", "")
    for number in (frames["received"], questions["asked"], questions["answered"], sum(counts["events"].values())):
        assert str(number) in told
    warm = soak["samples"][len(soak["samples"]) // 10 :]
    smallest = min(s["resident_mib"] for s in warm)
    for name, words in (("resident_mib", "over a scene"), ("peak_mib", "single readings")):
        assert f"{words} {100 * (max(s[name] for s in warm) / smallest - 1):.2f} %" in PAGE
    for verdict in soak["verdicts"][:4]:
        for figure in re.findall(r"-?\d+\.\d+ %", verdict["what"]):
            assert figure in told, verdict["what"]
