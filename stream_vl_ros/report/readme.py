"""What README quotes of a report.

python -m stream_vl_ros.report.readme docs/reports/cpu
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.report.curves import WINDOWED
from stream_vl_ros.report.results import Results, Section
from stream_vl_ros.report.words import counted

BEGIN = "<!-- report: written by `python -m stream_vl_ros.report.readme docs/reports/cpu` -->"
END = "<!-- end of report -->"


def markdown(results: Results) -> str:
    """A table over the length of the video, and what the other sections found, between its markers."""
    length, rate = results.section("length"), results.section("max fps")
    lines = [
        BEGIN,
        "| frames in the video | first token, ms: streaming | native | times as long | peak memory beyond the model, "
        "MiB: streaming | native | right answers, %: streaming | native | streaming with the last 64 frames |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_row(length, x) for x in sorted({p.x for p in length.of("first token")})]
    environment = results.environment
    versions = environment["versions"]
    lines += [
        "",
        f"({environment['device']}, {counted(environment['threads'], 'threads')}, torch {versions['torch']}, "
        f"transformers {versions['transformers']}, {results.model}, {environment['dtype']}.) "
        f"{length.text} {results.section('pair').findings[0]} " + " ".join(rate.findings),
        END,
    ]
    return "\n".join(lines)


def _row(section: Section, x: float) -> str:
    def cell(measure: str, series: str, digits: int = 1) -> str:
        point = section.at(measure, series, x)
        return f"{point.median:.{digits}f}" if point else "-"

    ours, theirs = (section.at("first token", s, x) for s in ("stream", "native"))
    ratio = f"{theirs.median / ours.median:.1f}" if ours and theirs else "out of memory"
    cells = [f"{x:g}", cell("first token", "stream"), cell("first token", "native"), ratio]
    cells += [cell("peak memory", s) for s in ("stream", "native")]
    cells += [cell("accuracy", s) for s in ("stream", "native", WINDOWED)]
    return "| " + " | ".join(cells) + " |"


def main(argv: Sequence[str]) -> int:
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(markdown(Results.load(argv[0])))
    except StreamVLError as error:
        print(f"readme: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
