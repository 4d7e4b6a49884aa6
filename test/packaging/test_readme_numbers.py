"""The numbers that README quotes are those of the files under docs/reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_vl_ros.report.readme import BEGIN, END, markdown
from stream_vl_ros.report.results import Results

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
REPORTS = ROOT / "docs" / "reports"


def results(name: str) -> dict[str, Any]:
    return json.loads((REPORTS / name).read_text())["results"]


def test_the_table_of_the_report_is_that_of_the_report():
    quoted = README[README.index(BEGIN) : README.index(END) + len(END)]
    assert quoted == markdown(Results.load(REPORTS / "cpu"))


def test_how_long_a_report_takes_is_how_long_it_took():
    took = {name: Results.load(REPORTS / name).environment["seconds"] / 60 for name in ("cpu", "h100")}
    assert f"The run behind this table took {took['cpu']:.0f} minutes" in README
    assert f"whose run on an H100 took {took['h100']:.0f} minutes" in README


def gpu(system: str, what: str, context: int, name: str = "gpu-h100-3b.json") -> np.ndarray:
    """Values of what was measured at the context nearest to this one."""
    some = [s for s in results(name)["samples"] if s["system"] == system and s["what"] == what]
    return np.array(min(some, key=lambda s: abs(s["context"] - context))["values"])


def row(what: str, cells: list[str]) -> str:
    return f"| {what} | {' | '.join(cells)} |".replace("|  |", "| |")


@pytest.mark.parametrize(
    ("name", "what", "context", "digits", "systems"),
    [
        ("14.4k | chunk of 4 frames, from uint8 on the host", "chunk", 14_400, 1, ("", "plain streaming", "engine")),
        (" | first token of a question", "first token", 14_400, 1, ("native", "plain streaming", "engine")),
        (" | each token after it", "token", 14_400, 1, ("native", "plain streaming", "engine")),
        (" | each token of 16 answers side by side", "token of each of 16", 14_400, 1, ("", "", "engine")),
        (" | answer of 60 tokens", "answer of 60 tokens", 14_400, 0, ("native", "", "engine")),
        ("57k | chunk", "chunk", 57_400, 1, ("", "plain streaming", "engine")),
        (" | first token", "first token", 57_400, 1, ("native", "plain streaming", "engine")),
        (" | each token after it", "token", 57_400, 1, ("native", "plain streaming", "engine")),
        (" | answer of 60 tokens", "answer of 60 tokens", 57_400, 0, ("native", "", "engine")),
    ],
)
def test_the_table_of_the_gpu_is_that_of_the_bench(name, what, context, digits, systems):
    cells = []
    for system in systems:
        if not system:
            cells.append("")
            continue
        value = float(np.median(gpu(system, what, context)))
        cells.append(f"{value:,.{0 if system != 'engine' else digits}f}")
    assert row(name, cells).replace("|  | ", "| | ") in README


PERFORMANCE = [
    ("chunk at 0 / 14.4k / 28.7k / 57k tokens, ms", "chunk", (0, 14_400, 28_700, 57_400), 1),
    ("first token of a question at 14.4k / 28.7k / 57k, ms", "first token", (14_400, 28_700, 57_400), 1),
    ("a token at 14.4k / 28.7k / 57k, ms", "token", (14_400, 28_700, 57_400), 2),
    ("a token of each of 16 answers, ms", "token of each of 16", (14_400, 28_700, 57_400), 2),
    ("answer of 60 tokens, ms", "answer of 60 tokens", (14_400, 28_700, 57_400), 0),
    ("peak memory at 14.4k / 28.7k / 57k, GB", "peak memory, GB", (14_400, 28_700, 57_400), 2),
]


@pytest.mark.parametrize(("title", "what", "contexts", "digits"), PERFORMANCE)
def test_the_table_of_three_machines_is_that_of_the_bench(title, what, contexts, digits):
    (line,) = (s for s in (ROOT / "docs/performance.md").read_text().splitlines() if s.startswith(f"| {title} |"))
    cells = [c.strip() for c in line.strip("|").split("|")][1:]
    columns = [
        ("gpu-h100-3b.json", ("native", "plain streaming", "engine")),
        ("gpu-h200-3b.json", ("engine",)),
        ("gpu-h200-7b.json", ("native", "plain streaming", "engine")),
    ]
    for cell, (name, system) in zip(cells, [(n, s) for n, systems in columns for s in systems], strict=True):
        values = [v for v in cell.replace("(rough)", "").split(" / ") if v]
        for value, context in zip(values, contexts, strict=False):
            if value.strip() == "-":
                continue
            found = float(np.median(gpu(system, what, context, name)))
            places = len(value.strip().partition(".")[2])
            assert places <= digits and float(value.replace(",", "")) == round(found, places), (name, system, value)


def test_what_is_said_below_the_table_of_the_gpu():
    assert f"An empty cache takes a chunk in {np.median(gpu('engine', 'chunk', 45)):.1f} ms" in README
    rate = gpu("engine", "frames/s, 196 tokens a pair, chunks of 16", 32_973)[0]
    assert f"{rate:.0f} frames/s are read in at 196 tokens a pair" in README
    busy, idle = (np.percentile(gpu("engine", f"chunk latency, {w}", 47_885), 99) for w in ("4 questions", "idle"))
    assert f"p99 {busy:.0f} ms, {idle:.0f} ms idle" in README
    assert f"The first chunk of a stream took {gpu('engine', 'first chunk of a stream, idle', 0)[0]:.0f} ms" in README


def test_what_is_said_of_exactness():
    found = results("exactness.json")
    assert f"{found['pairs']} questions at moments of streams" in README and not found["mismatches"]
    largest = max(kind["largest"] for kinds in found["float32"].values() for kind in kinds.values())
    assert f"logits at most {largest:.1e} apart".replace("e-05", "e-5") in README


def test_what_is_said_of_eviction():
    found = results("eviction.json")["variants"]

    def percent(variant: str, key: str = "right and asked", share: str | None = None) -> str:
        right, asked = found[variant][key] if share is None else found[variant][key][share]
        return f"{100 * right / asked:.1f} %"

    asked = found["full cache"]["right and asked"][1]
    half, past = "0.5 of it", "right and asked about what a window forgot"
    assert (
        f"answers {percent(f'importance, {half}')} of {asked} questions right (full cache {percent('full cache')}, "
        f"a window {percent(f'window, {half}')})" in README
    )
    old = [percent(f"{rule}, {half}", past, "0.5") for rule in ("importance", "window")]
    assert f"and {old[0]} (window {old[1]}) of those about" in README


def test_what_is_said_of_forks():
    found = results("forks.json")
    fork = {f["tokens"]: f for f in found["forks"]}
    assert (
        f"A fork takes {fork[1024]['fork_us']:.0f} us at 1,024 tokens and {fork[65536]['fork_us']:.0f} us at 65,536 "
        f"(where copying the cache would take {fork[65536]['clone_ms']:.0f} ms)" in README
    )
    step = {s["questions"]: s for s in found["steps"] if s["tokens"] == 65536}
    assert f"16 answers over 65,536 tokens take {step[16]['together_ms']:.0f} ms a token" in README
    assert f"{step[1]['together_ms']:.0f} ms, and 16 in turn take {step[16]['in_turn_ms']:.0f} ms" in README


def test_what_is_said_of_the_load():
    load = results("load.json")
    ends, (before, after) = load["ends"], load["process_mib"]
    assert not load["wrong"] and not ends.get("lost") and load["unknown"] == 0
    assert not sum(status["frames_dropped"] for status in load["statuses"].values())
    told = " ".join(README[README.index("## Under load") : README.index("## Reliable")].split())
    page = (ROOT / "docs" / "reliability.md").read_text()
    for words in (
        f"{sum(ends.values()):,} requests",
        f"{load['longest_wait']:.1f} s",
        f"{load['overdue']:.2f} s after its own",
        f"{abs(after - before):.0f} MiB {'more' if after > before else 'less'} than before",
    ):
        assert words in page and words in told, words
    assert f"{ends['answered']:,} were answered, {ends['busy']:,} refused as busy" in told
    assert f"{ends['timed_out']} cut off by their deadline and {ends['cancelled']} cancelled" in told
    assert f"in {5 * load['heeded_busy'] / load['heeded']:.0f} of 5 cases" in told
    assert f"{ends['answered']:,} answered + {ends['busy']:,} busy, each with an estimate" in page
    assert f"{ends['timed_out']} timed out + {ends['cancelled']} cancelled" in page


def test_what_is_said_of_the_soak():
    soak = results("soak.json")
    told = README[README.index("## Reliable") : README.index("## Forks")]
    assert all(verdict["holds"] for verdict in soak["verdicts"])
    counts = soak["counts"]
    assert f"{counts['frames']['received']:,} frames and {counts['questions']['asked']:,} questions" in told
    memory, cost, answers = (verdict["what"] for verdict in soak["verdicts"][:3])
    for what in (memory, cost):
        assert re.search(r"[+-]?\d+\.\d+ %", what).group() in told, what
    first, *_, last = re.findall(r"\d+\.\d %", answers)
    assert f"{first} right in the first third and {last} in the last" in told, answers
