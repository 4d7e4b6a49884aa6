"""`index.html`: the whole report as one file, which needs no other and no script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape as _escape

from stream_vl_ros.report import markdown, plots, results, svg, table
from stream_vl_ros.report.earlier import Run
from stream_vl_ros.report.page_style import STYLE
from stream_vl_ros.report.results import Results, Said, Section
from stream_vl_ros.report.tables import Table, facts, ladder, medians
from stream_vl_ros.report.words import RANGES, answer, mark, slugs, visible

FILE = "index.html"
Drawn = Mapping[str, Mapping[str, str]]


def page(report: Results, drawn: Drawn, earlier: Sequence[Run] = ()) -> str:
    """The whole file.

    Args:
        drawn: SVG by the name of its section and its measure, as `plots.write` returns it.
    """
    return "\n".join(_lines(report, drawn, earlier)) + "\n"


def escape(text: str) -> str:
    """Foreign text for an element or an attribute in quotes."""
    return _escape(visible(text))


def grid(some: Table, *, stacked: bool = False) -> Iterator[str]:
    """A table that where the window is narrow scrolls by itself, or `stacked` has every row as lines of text."""
    kind = ' class="stacked"' if stacked else ""
    heads = [f' data-head="{escape(head)}"' if stacked and head else "" for head in some.head]
    yield f'<div class="scroll"><table{kind}><thead><tr>'
    yield "".join(f"<th{_align(i, some)}>{escape(cell)}</th>" for i, cell in enumerate(some.head))
    yield "</tr></thead><tbody>"
    for i, row in enumerate(some.rows):
        cells = "".join(f"<td{heads[j]}{_align(j, some)}>{escape(cell)}</td>" for j, cell in enumerate(row))
        failed = ' class="failed"' if i in some.failed else ""
        yield f"<tr{failed}>{cells}</tr>"
    yield "</tbody></table></div>"


def _lines(report: Results, drawn: Drawn, earlier: Sequence[Run]) -> Iterator[str]:
    names = slugs(s.name for s in report.sections)
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{markdown.TITLE}: {escape(report.model)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>"
    yield f"<h1>{markdown.TITLE}</h1>\n<dl>"
    for name, value in facts(report):
        code = ("<code>", "</code>") if name == "command" else ("", "")
        yield f"<dt>{escape(name)}</dt><dd>{code[0]}{escape(value)}{code[1]}</dd>"
    yield "</dl>"
    links = (results.FILE, table.FILE, markdown.FILE)
    yield "<p>" + " · ".join(f'<a href="{f}">{f}</a>' for f in links) + "</p>\n</header>\n<main>"
    yield from _summary(report, names)
    yield from _contents(report, names, earlier)
    for section in report.sections:
        yield from _section(section, names[section.name], drawn.get(section.name, {}))
    yield from _earlier(earlier)
    yield '<section id="log"><h2>Log</h2><details><summary>what the console showed, '
    yield f"{len(report.log):,} lines</summary><pre>{escape(chr(10).join(report.log))}</pre></details></section>"
    yield "</main>\n</body>\n</html>"


def _summary(report: Results, names: Mapping[str, str]) -> Iterator[str]:
    found = [(s, f) for s in report.sections for f in s.findings]
    if found:
        yield '<section class="summary" id="findings"><h2>Findings</h2><ul>'
        for section, finding in found:
            yield f'<li>{escape(finding)} <a href="#{names[section.name]}">{escape(section.name)}</a></li>'
        yield "</ul></section>"


def _contents(report: Results, names: Mapping[str, str], earlier: Sequence[Run]) -> Iterator[str]:
    yield '<nav aria-label="Contents"><h2>Contents</h2><ol>'
    for section in report.sections:
        yield f'<li><a href="#{names[section.name]}">{escape(section.title)}</a></li>'
    if earlier:
        yield '<li><a href="#other-runs">Other runs</a></li>'
    yield '<li><a href="#log">Log</a></li></ol></nav>'


def _section(section: Section, slug: str, drawn: Mapping[str, str]) -> Iterator[str]:
    yield f'<section id="{slug}"><h2>{escape(section.title)}</h2>'
    yield f"<p>{escape(section.text)}</p>"
    if section.findings:
        yield '<ul class="found">' + "".join(f"<li>{escape(f)}</li>" for f in section.findings) + "</ul>"
    if drawn:
        yield '<div class="plots">'
        for measure, part in slugs(drawn).items():
            yield svg.inline(drawn[measure], f"{slug}--{part}", plots.about(section, measure))
        yield "</div>"
        if any(len(p.values) > 1 for p in section.points):
            yield f'<p class="caption">{RANGES}</p>'
    if section.points:
        yield "<details><summary>all medians</summary>"
        yield from grid(medians(section))
        yield "</details>"
    if section.said:
        yield "<h3>Answers</h3>"
        for said in section.said:
            yield from _said(said)
    if section.rungs:
        yield "<h3>Attempts</h3>"
        yield from grid(ladder(section), stacked=True)
    yield "</section>"


def _said(said: Said) -> Iterator[str]:
    kind = {"identical": "same", "different": "differs"}.get(mark(said), "alone")
    stream, native = (
        f"<q>{escape(answer(text or '', ids))}</q>"
        for text, ids in ((said.stream, said.stream_ids), (said.native, said.native_ids))
    )
    if said.native is None:
        native = '<i class="none">ran out of memory</i>'
    yield f'<div class="said"><p><b>{escape(said.question)}</b> <small>{escape(said.about)}</small>'
    yield f'<span class="mark {kind}">{mark(said)}</span></p>'
    yield f"<div><h4>stream</h4>{stream}</div><div><h4>native</h4>{native}</div></div>"


def _earlier(earlier: Sequence[Run]) -> Iterator[str]:
    if not earlier:
        return
    yield '<section id="other-runs"><h2>Other runs</h2><ul>'
    for run in earlier:
        about = ", ".join(escape(s) for s in (run.date, run.model, run.hardware) if s)
        name = escape(run.name)
        linked = f'<a href="{escape(run.link)}/{FILE}">{name}</a>' if run.readable else name
        yield f"<li>{linked}: {about}</li>"
    yield "</ul></section>"


def _align(column: int, some: Table) -> str:
    return "" if column < some.names else ' class="number"'
