"""`report.md`: the report for people who read it on a code host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from stream_vl_ros.report import plots, results, table
from stream_vl_ros.report.earlier import Run
from stream_vl_ros.report.results import Results, Section
from stream_vl_ros.report.tables import Table, facts, ladder, medians
from stream_vl_ros.report.words import RANGES, answer, mark, visible

FILE = "report.md"
TITLE = "Stream against native"


def markdown(report: Results, earlier: Sequence[Run] = ()) -> str:
    """The whole file."""
    return "\n".join(_lines(report, earlier)) + "\n"


def escape(text: str) -> str:
    """Foreign text as it is, inside a table or not: no markup, no HTML, one line."""
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", text)
    return text.replace("\n", "<br>")


def grid(some: Table) -> Iterator[str]:
    """A table, with failed rows in bold."""
    yield "| " + " | ".join(map(escape, some.head)) + " |"
    yield "|" + "|".join("---" if i < some.names else "---:" for i in range(len(some.head))) + "|"
    for i, row in enumerate(some.rows):
        cells = [f"**{cell}**" if cell and i in some.failed else cell for cell in map(escape, row)]
        yield "| " + " | ".join(cells) + " |"


def _lines(report: Results, earlier: Sequence[Run]) -> Iterator[str]:
    files = plots.files(report)
    yield f"# {TITLE}"
    yield ""
    yield from grid(Table(["", ""], [[name, value] for name, value in facts(report)]))
    yield ""
    yield f"[{results.FILE}]({results.FILE}) · [{table.FILE}]({table.FILE}) · [index.html](index.html)"
    yield ""
    yield "## Findings"
    yield ""
    yield from (f"- {escape(f)}" for s in report.sections for f in s.findings)
    yield ""
    for section in report.sections:
        yield from _section(section, files[section.name])
    if earlier:
        yield "## Other runs"
        yield ""
        for run in earlier:
            about = ", ".join(escape(s) for s in (run.date, run.model, run.hardware) if s)
            name = escape(run.name)
            yield f"- {f'[{name}]({run.link}/{FILE})' if run.readable else name}: {about}"
        yield ""
    yield "## Log"
    # Four spaces make it code, in which nothing means anything.
    yield ""
    yield from (f"    {line}" for entry in report.log for line in visible(entry).split("\n"))


def _section(section: Section, files: Mapping[str, str]) -> Iterator[str]:
    yield f"## {escape(section.title)}"
    yield ""
    yield escape(section.text)
    yield ""
    if section.findings:
        yield from (f"- {escape(f)}" for f in section.findings)
        yield ""
    if section.points:
        yield from (f"![{escape(plots.about(section, m))}]({file})" for m, file in files.items())
        yield ""
        if any(len(p.values) > 1 for p in section.points):
            yield RANGES
            yield ""
        yield from grid(medians(section))
        yield ""
    if section.said:
        yield from grid(_answers(section))
        yield ""
    if section.rungs:
        yield from grid(ladder(section))
        yield ""


def _answers(section: Section) -> Table:
    rows = [
        [a.about, a.question, answer(a.stream, a.stream_ids), answer(a.native or "", a.native_ids), mark(a)]
        for a in section.said
    ]
    return Table(["of", "question", "stream", "native", ""], rows, names=5)
