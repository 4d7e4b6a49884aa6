"""Counting right answers."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

from stream_vl_ros.world.questions import Question

_NUMBER = re.compile(r"\d+")
_LETTER = re.compile(r"\(([A-D])\)\s*$")
TIMED = ("when", "ago")


def is_right(question: Question, answer: str) -> bool:
    """Whether a whole answer is right. Where a letter was wanted, the letter alone counts."""
    if question.kind == "letter":
        wanted, said = _LETTER.search(question.answer), _LETTER.search(answer)
        return bool(wanted and said and wanted.group(1) == said.group(1))
    return answer == question.answer


def is_near(question: Question, answer: str, seconds: int = 1) -> bool:
    """Whether an answer in seconds is of the right form and within ``seconds``."""
    wanted, said = _NUMBER.search(question.answer), _NUMBER.search(answer)
    if wanted is None or said is None or question.answer.startswith("at") != answer.startswith("at"):
        return False
    return abs(int(wanted.group()) - int(said.group())) <= seconds


@dataclass(slots=True)
class Score:
    """Right answers among those asked, by kind and column."""

    cells: dict[str, dict[str, list[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: [0, 0]))
    )
    wrong: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, column: str, question: Question, answer: str) -> None:
        right = is_right(question, answer)
        self.count(question.kind, column, right)
        if question.kind in TIMED:
            self.count(f"{question.kind} +-1 s", column, is_near(question, answer))
        self.count("ALL", column, right)
        if not right and len(self.wrong) < 400:
            self.wrong.append((column, question.text, question.answer, answer))

    def count(self, row: str, column: str, right: bool) -> None:
        cell = self.cells[row][column]
        cell[0] += right
        cell[1] += 1

    def percent(self, row: str, column: str | None = None) -> float | None:
        """Percent right of a cell, or of a whole row; None where nothing was asked."""
        cells = [c for k, c in self.cells.get(row, {}).items() if column in (None, k)]
        asked = sum(c[1] for c in cells)
        return 100 * sum(c[0] for c in cells) / asked if asked else None

    def asked(self, row: str) -> int:
        return sum(c[1] for c in self.cells.get(row, {}).values())

    def columns(self) -> list[str]:
        return list(self.cells.get("ALL", {}))

    def to_json(self) -> dict[str, object]:
        return {"cells": {row: dict(cells) for row, cells in self.cells.items()}, "wrong": self.wrong}
