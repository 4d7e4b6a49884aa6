"""What is written under docs/reports is what its results come to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream_vl_ros.report import markdown, page, plots, table
from stream_vl_ros.report.chunk_sweep import best_in_words
from stream_vl_ros.report.results import FILE, Results

REPORTS = sorted(p.parent for p in (Path(__file__).parents[2] / "docs" / "reports").glob(f"*/{FILE}"))


@pytest.fixture(params=REPORTS, ids=lambda folder: folder.name)
def folder(request):
    return request.param


def test_there_are_some():
    assert {folder.name for folder in REPORTS} >= {"cpu", "h100"}


def test_the_markdown_says_what_the_results_say(folder):
    assert (folder / markdown.FILE).read_text() == markdown.markdown(Results.load(folder))


def test_the_page_says_what_the_results_say(folder):
    """But for its plots, which another release of matplotlib may draw in other words."""
    results = Results.load(folder)
    drawn = {name: dict.fromkeys(files, "<svg></svg>\n") for name, files in plots.files(results).items()}
    made = page.page(results, drawn)
    assert without_plots(made) == without_plots((folder / page.FILE).read_text())


def without_plots(text: str) -> str:
    return re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)


def test_every_plot_is_there_and_no_other(folder):
    named = {file for files in plots.files(Results.load(folder)).values() for file in files.values()}
    assert {p.relative_to(folder).as_posix() for p in (folder / plots.FOLDER).rglob("*") if p.is_file()} == named


def test_the_csv_holds_what_the_results_hold(folder, tmp_path):
    table.write(Results.load(folder), tmp_path)
    assert (folder / table.FILE).read_bytes() == (tmp_path / table.FILE).read_bytes()


def test_the_log_is_the_one_in_the_results(folder):
    assert (folder / "log.txt").read_text().splitlines() == Results.load(folder).log


def test_the_best_chunk_size_follows_from_the_measurements(folder):
    swept = [s for s in Results.load(folder).sections if s.of("per frame")]
    assert len(swept) == 3
    for section in swept:
        assert any(said.startswith(best_in_words(section)) for said in section.findings)
