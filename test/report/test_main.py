"""The command, as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stream_vl_ros.report.journal import Journal
from stream_vl_ros.report.main import _MAKERS, main
from stream_vl_ros.report.results import Results


def report(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream_vl_ros.report", "--quick", "--device", "cpu", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "400"},
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("out")
    return folder, report("--sections", "ladder", "memory", "--cap", 32, "--out", folder, "--name", "one")


def test_everything_is_written_and_the_console_and_the_file_say_the_same(made):
    folder, process = made
    assert process.returncode == 0, process.stderr
    run = folder / "runs" / "one"
    for place in (folder, run):
        for name in ("index.html", "report.md", "results.csv", "results.json"):
            assert (place / name).stat().st_size > 200, name
    log = (run / "log.txt").read_text().splitlines()
    results = Results.load(run)
    assert results.log == log
    shown = process.stdout.splitlines()
    assert [line for line in shown if line in log] == log, "in the same order, the failed rungs included"
    assert any("ran out of memory" in line for line in log)
    assert results.environment["command"].startswith("python -m stream_vl_ros.report --quick")
    assert [s.name for s in results.sections] == ["ladder", "memory"]
    ladder = results.section("ladder")
    assert any(not r.ran for r in ladder.rungs) and ladder.said[-1].identical is True
    page = (run / "index.html").read_text()
    assert "out of memory" in page and results.environment["device"] in page


def test_runs_lie_side_by_side_and_none_is_overwritten(made, capsys):
    folder, _ = made
    args = ["--quick", "--device", "cpu", "--sections", "chunk size", "--out", str(folder), "--name"]
    assert main([*args, "one"]) == 2
    assert "--name" in capsys.readouterr().err
    assert main([*args, "two"]) == 0
    assert sorted(p.name for p in (folder / "runs").iterdir()) == ["one", "two"]
    assert "runs/one" in (folder / "index.html").read_text()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--strides", "4", "2"], "rising whole numbers"),
        (["--lengths", "2"], "4 frames or more"),
        (["--clips", "0"], "clips 0"),
        (["--name", "../x"], "--name '../x'"),
        (["--cap", "-1"], "cap -1 MiB"),
        (["--model", "/no/such/model"], "/no/such/model"),
    ],
)
def test_wrong_values_are_refused_with_the_reason(tmp_path, capsys, args, said):
    out = tmp_path / "out"
    assert main(["--quick", "--sections", "ladder", "--device", "cpu", "--out", str(out), *args]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists(), "nothing is left behind"


def test_a_part_that_fails_leaves_the_others(tmp_path, monkeypatch):
    def full(bench: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setitem(_MAKERS, "ladder", full)
    args = ["--quick", "--device", "cpu", "--sections", "ladder", "memory", "--lengths", "8", "--out", str(tmp_path)]
    assert main([*args, "--name", "one"]) == 2
    results = Results.load(tmp_path / "runs" / "one")
    assert results.section("ladder").findings[0].startswith("This part failed: CUDA out of memory")
    assert results.section("ladder").failed
    assert results.section("memory").points and not results.section("memory").failed
    assert "This part failed" in (tmp_path / "runs" / "one" / "report.md").read_text()


def test_a_journal_keeps_what_was_said_before_an_error(tmp_path):
    from rich.console import Console

    shown = Console(file=(tmp_path / "console").open("w"), width=40)
    journal = Journal(shown, tmp_path / "log.txt")
    journal.say("[red]a long line that does not fit into the width of the console[/red]")
    error = ZeroDivisionError("it")
    journal.__exit__(ZeroDivisionError, error, None)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines == journal.lines == (tmp_path / "console").read_text().splitlines()
    assert lines[0].startswith("[red]a long line") and lines[1] == "ended by ZeroDivisionError: it"


def test_the_results_are_plain_json(made):
    folder, _ = made
    record = json.loads((folder / "runs" / "one" / "results.json").read_text())
    assert record["version"] == 1 and record["sections"]
