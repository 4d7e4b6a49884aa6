"""Questions at moments of a recording, and how a command line names them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stream_vl_ros.engine.prompt import check_choices, check_question
from stream_vl_ros.errors import ConfigError, PromptError

if TYPE_CHECKING:
    from stream_vl_ros.engine.answer import Answer


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question at a moment of a recording.

    Attributes:
        number: from 1, in the order in which they were given.
        at: seconds from the first image, by header stamp; None for the end.
        text: the question.
        choices: options to choose from; empty for a free answer.
    """

    number: int
    at: float | None
    text: str
    choices: tuple[str, ...] = ()


@dataclass(slots=True)
class Outcome:
    """What became of an inquiry.

    Attributes:
        answer: None if there is none; then `error` says why.
        note: something that one may not expect, in words.
    """

    inquiry: Inquiry
    answer: Answer | None = None
    error: str = ""
    note: str = ""


def inquiries(drafts: Sequence[Draft], moments: Sequence[float | None]) -> list[Inquiry]:
    """Each question at its moment.

    Raises:
        ConfigError: it is not clear which question belongs to which moment.
        PromptError: there is no question, or one that cannot be asked.
    """
    if not drafts or drafts[0].text is None:
        raise PromptError("no question; ask one with -q 'What is visible now?'")
    if len(drafts) == 1:
        drafts, moments = [drafts[0]] * max(1, len(moments)), moments or [None]
    elif not moments:
        moments = [None] * len(drafts)
    elif len(moments) != len(drafts):
        raise ConfigError(
            f"{len(drafts)} questions but {len(moments)} moments (--at): give one for each question, in the same "
            "order, where 'end' is one, too; or none at all to ask all of them at the end"
        )
    return [
        Inquiry(
            number,
            at,
            check_question(draft.text or ""),
            check_choices(tuple(draft.choices)) if draft.choices else (),
        )
        for number, (draft, at) in enumerate(zip(drafts, moments, strict=True), 1)
    ]


def moment(text: str) -> float | None:
    """The argument of --at: seconds, or None for the end."""
    if text == "end":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no moment of a recording; give seconds from its first image, such as 12.5, or 'end'"
        )
    return seconds


class Draft:
    """A question of the command line: its text, None before it came, and its options."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text
        self.choices: list[str] = []


class AddQuestion(argparse.Action):
    """-q: one more draft."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        drafts = list(getattr(namespace, self.dest))
        if drafts and drafts[-1].text is None:
            drafts[-1].text = values  # its options stood in front of it
        else:
            drafts.append(Draft(values))
        setattr(namespace, self.dest, drafts)


class AddChoices(argparse.Action):
    """--choices and --choice: options of the draft before it, or of the first one."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        drafts = list(getattr(namespace, self.dest)) or [Draft()]
        drafts[-1].choices += [values] if option == "--choice" else [text.strip() for text in values.split(",")]
        setattr(namespace, self.dest, drafts)
