"""The page, the Markdown and the CSV, and all files together."""

from __future__ import annotations

import csv
import re
import sys
from html.parser import HTMLParser

import pytest
from made_up import HOSTILE, made_up
from markdown_it import MarkdownIt

from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.markdown import escape as escape_markdown
from stream_vl_ros.report.results import Results
from stream_vl_ros.report.tables import UNKNOWN, facts
from stream_vl_ros.report.words import visible
from stream_vl_ros.report.write import write

PANELS = sum(len({p.measure for p in s.points}) for s in made_up().sections)
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Balanced tags, or an assertion; what is in elements, links and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data

    def of(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    write(made_up(1), folder / "an old <one>")
    (folder / "broken").mkdir()
    write(made_up(), folder / "new", [folder / "an old <one>", folder / "broken"])
    return folder / "new"


@pytest.fixture(scope="module")
def page(report):
    return Page((report / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def markdown(report):
    return (report / "report.md").read_text(encoding="utf-8")


def test_all_files_are_there(report):
    files = {str(p.relative_to(report)) for p in report.rglob("*") if p.is_file()}
    assert files >= {"results.json", "results.csv", "report.md", "index.html", "plots/length/first-token.svg"}
    assert Results.load(report) == made_up()


def test_the_csv_holds_every_value(report):
    with (report / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = [(s, p) for s in made_up().sections for p in s.points]
    assert len(rows) == len(points)
    for row, (section, p) in zip(rows, points, strict=True):
        assert (row["section"], row["series"], row["measure"], row["unit"]) == (
            section.name,
            p.series,
            p.measure,
            p.unit,
        )
        assert (row["axis"], float(row["x"]), float(row["median"])) == (section.axis, p.x, p.median)
        assert [float(v) for v in row["values"].split()] == pytest.approx(p.values, rel=1e-8)


def test_the_page_needs_nothing_else(page):
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("svg") == PANELS
    assert not any(key.startswith("on") for key, _ in page.attributes)


def test_the_page_leads_to_its_sections_and_files(report, page):
    ids = page.of("id")
    assert len(ids) == len(set(ids))
    for link in page.of("href"):
        if link.startswith("#"):
            assert link[1:] in ids
    assert {"results.json", "results.csv", "report.md", "../an%20old%20%3Cone%3E/index.html"} <= set(page.of("href"))
    assert not any("broken" in link for link in page.of("href"))


def test_a_report_without_accuracy_says_why(markdown):
    results = made_up()
    assert any(s.of("accuracy") for s in results.sections)
    assert UNKNOWN not in markdown
    for section in results.sections:
        section.points[:] = [p for p in section.points if p.measure != "accuracy"]
    assert ("accuracy", UNKNOWN) in facts(results)


def test_the_page_says_everything(page):
    results = made_up()
    environment = results.environment
    for word in (results.model, environment["device"], environment["date"], environment["command"], "torch 2.14.1"):
        assert word in page.words
    for section in results.sections:
        for word in (section.title, section.text, *section.findings):
            assert word in page.words
    for word in ("identical", "different", "native out of memory", "FAILED", "<b>50%</b>", "first line\n"):
        assert word in page.words
    assert page.of("class").count("failed") == 3


def test_hostile_answers_are_only_text(report, page):
    assert page.words.count(visible(HOSTILE)) == 2
    text = (report / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)


def test_hostile_names_do_not_leave_their_place():
    results = made_up()
    section = results.sections[0]
    section.name = section.title = section.axis = section.text = '"><script>x</script>'
    results.environment["command"] = "</code><script>"
    from stream_vl_ros.report.page import page as whole

    parsed = Page(whole(results, {}))
    assert "script" not in parsed.tags


def test_answers_without_text_are_told_by_their_tokens(page, markdown):
    for some in (page.words, markdown):
        assert "(no text; tokens 7 151643)" in some and "(no text; tokens 7 151644)" in some


def test_markdown_is_tables_and_links_that_exist(report, markdown):
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    rows = [t for t in tokens if t.type == "tr_open"]
    assert len(rows) > 25
    inline = [child for t in tokens for child in t.children or ()]
    pictures = [child.attrs["src"] for child in inline if child.type == "image"]
    assert len(pictures) == PANELS
    assert all((report / p).is_file() for p in pictures)
    assert {child.content for child in inline if child.type == "html_inline"} <= {"<br>"}
    assert not any(t.type == "html_block" for t in tokens)


def test_markdown_links_only_runs_that_can_be_read(markdown):
    assert "](../an%20old%20%3Cone%3E/report.md)" in markdown
    assert "- broken: cannot be read" in markdown


def test_markdown_shows_hostile_answers_in_one_cell(markdown):
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    cells = [t for t in tokens if t.type == "inline" and "alert" in t.content]
    assert len(cells) == 2
    for cell in cells:
        words = "".join("\n" if c.type == "html_inline" else c.content for c in cell.children)
        assert words == visible(HOSTILE)


@pytest.mark.parametrize("text", ["a|b", "<i>&amp;", "[x](y) ![z](w)", "`a` *b* _c_ ~d~ # e", "\\| $x$", "1 < 2\n3"])
def test_markdown_escapes(text):
    line = f"| {escape_markdown(text)} |\n|---|\n"
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(line)
    (cell,) = [t for t in tokens if t.type == "inline"]
    assert "".join("\n" if c.type == "html_inline" else c.content for c in cell.children) == text


def test_an_empty_report_can_be_written(tmp_path):
    write(Results({}, "a model"), tmp_path / "a" / "b")
    assert "a model" in Page((tmp_path / "a" / "b" / "index.html").read_text()).words


def test_numbers_are_safe_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ReportError, match="matplotlib"):
        write(made_up(), tmp_path)
    assert Results.load(tmp_path) == made_up()
    assert (tmp_path / "results.csv").is_file()
