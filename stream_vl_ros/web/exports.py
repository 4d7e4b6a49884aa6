"""The history as a file: JSON, or CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from stream_vl_ros.web.history import Entry

COLUMNS = (
    "id", "asked_at", "origin", "stream", "question", "choices", "dialogue", "regex", "state", "answer", "scores",
    "probabilities", "error", "remembered", "first_stamp", "last_stamp", "frames_seen", "ttft", "total_time",
    "answer_tokens", "tokens_per_second", "cache_tokens",
)  # fmt: skip


def to_json(entries: Iterable[Entry]) -> str:
    """A list of objects; stamps in seconds."""
    rows = [entry.document() for entry in entries]
    return json.dumps([{name: row[name] for name in COLUMNS} for row in rows], indent=2, ensure_ascii=False)


def to_csv(entries: Iterable[Entry]) -> str:
    """A row for each entry; lists as JSON."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for entry in entries:
        row = entry.document()
        writer.writerow([_cell(row[name]) for name in COLUMNS])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False) if value else ""
    # A spreadsheet would take such text for a formula.
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
