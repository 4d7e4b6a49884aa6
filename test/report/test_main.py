"""The command, as people run it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from stream_vl_ros.bench import footage as recordings
from stream_vl_ros.report.journal import Journal
from stream_vl_ros.report.main import _MAKERS, main
from stream_vl_ros.report.results import Results

QUICK = ("--quick", "--device", "cpu")


def begun(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stream_vl_ros.report", *QUICK, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "400"},
    )


def report(*args: object) -> subprocess.CompletedProcess[str]:
    with begun(*args) as process:
        try:
            said, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, said, errors)


def until(what: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


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
    assert [line for line in shown if "plots" in line] == [f"drawing the plots of {run}"], "once"
    assert shown[-1] == f"{folder / 'index.html'}"
    assert [s.name for s in results.sections] == ["ladder", "memory"]
    ladder = results.section("ladder")
    assert any(not r.ran for r in ladder.rungs) and ladder.said[-1].identical is True
    page = (run / "index.html").read_text()
    assert "out of memory" in page and results.environment["device"] in page


def test_runs_lie_side_by_side_and_none_is_overwritten(made, capsys):
    folder, _ = made
    args = ["--quick", "--device", "cpu", "--sections", "chunk size", "chunk size", "--out", str(folder), "--name"]
    assert main([*args, "one"]) == 2
    assert "--name" in capsys.readouterr().err
    assert main([*args, "two"]) == 0
    assert sorted(p.name for p in (folder / "runs").iterdir()) == ["one", "two"]
    assert [s.name for s in Results.load(folder).sections] == ["chunk size"], "named twice, made once"
    page, markdown = ((folder / name).read_text() for name in ("index.html", "report.md"))
    assert 'href="runs/one/index.html"' in page and "(runs/one/report.md)" in markdown
    assert "runs/two" not in page + markdown.split("## Log")[0], "it is no other run"
    for place in (folder, folder / "runs" / "two"):
        assert (place / "plots" / "chunk-size" / "first-token.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--strides", "4", "2"], "rising whole numbers"),
        (["--lengths", "2"], "4 frames or more"),
        (["--clips", "0"], "clips 0"),
        (["--name", "../x"], "--name '../x'"),
        (["--cap", "-1"], "cap -1 MiB"),
        (["--cap", "nan"], "cap nan MiB"),
        (["--cap", "inf"], "cap inf MiB"),
        (["--cap", "1e300"], "no device has so much"),
        (["--curve-cap", "nan"], "curve_cap nan MiB"),
        (["--curve-cap", "inf"], "curve_cap inf MiB"),
        (["--threads", "0"], "--threads 0: give 1 or more"),
        (["--threads", "-1"], "--threads -1: give 1 or more"),
        (["--size", "0", "0"], "--size 0 0: give a height"),
        (["--size", "112", "-1"], "--size 112 -1: give a height"),
        (["--tokens", "0"], "--tokens 0: "),
        (["--seed", "-1"], "--seed -1: "),
        (["--footage", "a/x.avi", "b/x.mp4"], "'x' is the name of two files"),
        (["--sections", "footage", "--footage"], "nothing to measure"),
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--shape", "tiny", "--dtype", "foo"], "dtype='foo': use 'auto' or one of"),
        (["--shape", "tiny", "--device", "foo"], "device='foo': not a device name"),
        (["--shape", "tiny", "--device", "meta"], "device='meta': not supported"),
    ],
)
def test_wrong_values_are_refused_with_the_reason(tmp_path, capsys, args, said):
    out = tmp_path / "out"
    assert main(["--quick", "--sections", "ladder", "--device", "cpu", "--out", str(out), *args]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists(), "nothing is left behind"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("model", [["--shape", "tiny"], []])
def test_a_gpu_that_is_not_there_is_said(tmp_path, capsys, model):
    assert main(["--quick", "--device", "cuda", "--out", str(tmp_path / "out"), *model]) == 2
    assert "device='cuda': PyTorch sees no CUDA device here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions mean nothing to root."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)


@pytest.mark.parametrize(("out", "runs", "at"), [(0o555, 0o777, "out"), (0o777, 0o555, "out/runs")])
def test_a_folder_that_may_not_be_written_to_is_said_at_once(tmp_path, monkeypatch, capsys, out, runs, at):
    (tmp_path / "out" / "runs").mkdir(parents=True)
    for folder, mode in ((tmp_path, 0o755), (tmp_path / "out" / "runs", runs), (tmp_path / "out", out)):
        folder.chmod(mode)
    monkeypatch.chdir(tmp_path)  # nobody else can come here by way of the folders above it
    with as_nobody():
        # A model that is not there would be missed if it were looked for first.
        assert main([*QUICK, "--model", "/no/such/model", "--out", "out"]) == 2
    assert f"report: {at}: you may not write there; give another" in capsys.readouterr().err.replace(f"{tmp_path}/", "")
    assert not list((tmp_path / "out" / "runs").iterdir())


@pytest.mark.parametrize("name", ["index.html", "results.csv", "plots"])
def test_what_is_in_the_way_of_the_newest_report_is_said_at_once(tmp_path, capsys, name):
    if name == "plots":
        (tmp_path / name).write_text("a file")
    else:
        (tmp_path / name).mkdir()
    assert main([*QUICK, "--model", "/no/such/model", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / name) in error and "--out" in error
    assert not (tmp_path / "runs").exists()


def test_what_fails_before_anything_is_measured_leaves_no_run(tmp_path, capsys):
    args = [*QUICK, "--sections", "pair", "--size", "2", "3000", "--out", str(tmp_path)]
    assert main(args) == 2
    assert "3000x2 pixels" in capsys.readouterr().err
    assert not list((tmp_path / "runs").iterdir()) and not (tmp_path / "index.html").exists()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> tuple[Path, int, str, str]:
    """A report that got Ctrl-C in its second part: its folder, exit code, stdout and stderr."""
    folder = tmp_path_factory.mktemp("interrupted") / "a folder's [name]"
    log = folder / "runs" / "one" / "log.txt"
    with begun("--sections", "chunk size", "max fps", "memory", "--out", folder, "--name", "one") as process:
        try:
            until(lambda: process.poll() is not None or (log.exists() and "--- max fps" in log.read_text()))
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    return folder, process.returncode, said, errors


def test_ctrl_c_writes_what_is_there_and_says_where(interrupted):
    folder, code, said, errors = interrupted
    assert code == 130
    assert errors.splitlines()[-1] == "report: interrupted" and "Traceback" not in errors
    assert said.splitlines()[-1] == str(folder / "index.html")
    run = folder / "runs" / "one"
    for place in (folder, run):
        for name in ("index.html", "report.md", "results.csv", "results.json", "plots/chunk-size/first-token.svg"):
            assert (place / name).stat().st_size > 200, name
    results = Results.load(run)
    assert [(s.name, s.failed) for s in results.sections] == [("chunk size", False), ("max fps", True)]
    assert results.section("chunk size").points
    finding = "This part was interrupted. Not begun: memory."
    assert results.section("max fps").findings == [finding] and finding in (run / "index.html").read_text()
    assert results.log == (run / "log.txt").read_text().splitlines() and results.log[-1] == "interrupted"


def test_ctrl_c_while_plots_are_drawn_says_where_the_numbers_are(tmp_path):
    run = tmp_path / "runs" / "one"
    with begun("--sections", "chunk size", "--out", tmp_path, "--name", "one") as process:
        try:
            # It is written just before, and there is a second of drawing after it.
            until(lambda: process.poll() is not None or (run / "results.csv").exists())
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert said.splitlines()[-1] == f"not drawn to the end; the numbers are in {run / 'results.json'}"
    assert process.returncode == 130 and "Traceback" not in errors
    assert Results.load(run).section("chunk size").points


def test_the_command_of_a_report_can_be_run_again(interrupted):
    folder, *_ = interrupted
    command = Results.load(folder).environment["command"]
    args = ["--sections", "chunk size", "max fps", "memory", "--out", str(folder), "--name", "one"]
    assert shlex.split(command) == ["python", "-m", "stream_vl_ros.report", *QUICK, *args]
    assert command in (folder / "runs" / "one" / "log.txt").read_text().splitlines()


def test_the_next_run_links_to_an_interrupted_one_and_to_none_without_a_page(interrupted, tmp_path):
    folder = interrupted[0]
    shutil.copytree(folder / "runs" / "one", tmp_path / "runs" / "one")
    (tmp_path / "runs" / "killed").mkdir()
    shutil.copy(folder / "runs" / "one" / "results.json", tmp_path / "runs" / "killed")
    assert main([*QUICK, "--sections", "memory", "--out", str(tmp_path), "--name", "next"]) == 0
    page, markdown = ((tmp_path / name).read_text() for name in ("index.html", "report.md"))
    assert 'href="runs/one/index.html"' in page and "(runs/one/report.md)" in markdown
    assert "runs/killed" not in page + markdown
    assert "killed: " in page and "it has no page" in page and "- killed: " in markdown


def test_an_error_that_nobody_foresaw_shows_when_all_is_written(tmp_path, monkeypatch, capsys):
    def broken(bench: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setitem(_MAKERS, "fps", broken)
    args = [*QUICK, "--sections", "memory", "fps", "chunk size", "--out", str(tmp_path), "--name", "one"]
    with pytest.raises(ZeroDivisionError, match="by nothing"):
        main(args)
    assert str(tmp_path / "index.html") in capsys.readouterr().out
    for place in (tmp_path, tmp_path / "runs" / "one"):
        results = Results.load(place)
        assert [(s.name, s.failed) for s in results.sections] == [("memory", False), ("fps", True)]
        assert "ZeroDivisionError: by nothing. Not begun: chunk size." in (place / "index.html").read_text()
        assert "ZeroDivisionError: by nothing. Not begun: chunk size." in (place / "report.md").read_text()
    assert results.log[-1] == "ended by ZeroDivisionError: by nothing"


def painted(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 112
        stream.pix_fmt = "yuv420p"
        for i in range(frames):
            picture = np.full((112, 112, 3), 5 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_parts_of_a_recording_that_fail_have_the_names_of_those_that_do_not(tmp_path):
    painted(tmp_path / "short.mp4", 2)
    args = ["--sections", "footage", "--footage", str(tmp_path / "short.mp4"), "--out", str(tmp_path / "out")]
    assert main([*QUICK, *args]) == 2
    sections = Results.load(tmp_path / "out").sections
    # As test_pairs.py has them of one that is long enough.
    assert [s.name for s in sections] == ["footage short", "footage short chunks", "footage short ladder"]
    assert all(s.failed and "at least 4 are needed" in s.findings[0] for s in sections)


def test_recordings_that_are_not_installed_stand_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setitem(recordings.FILES, "vtest", "no such street.avi")
    monkeypatch.setitem(recordings.FILES, "bikes", "no such bikes.mp4")
    assert main([*QUICK, "--sections", "footage", "--out", str(tmp_path), "--name", "one"]) == 0
    first, second = Results.load(tmp_path).sections
    assert (first.name, second.name) == ("footage no such street", "footage no such bikes")
    assert first.findings == [f"no such street.avi is left out: it is not installed; {recordings.SOURCES['vtest']}"]
    assert not first.failed
    assert "no such bikes.mp4 is left out" in (tmp_path / "index.html").read_text()


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
