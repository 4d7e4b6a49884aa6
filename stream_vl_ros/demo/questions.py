"""Which questions the demo asks, and at which moment of the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the demo.

    Attributes:
        at: seconds of the stream, from its first frame.
        text: the question.
        choices: options to choose from; empty for a free answer.
        expected: the right answer, where it is known.
    """

    at: float
    text: str
    choices: tuple[str, ...] = ()
    expected: str | None = None


DEMO_BAG: tuple[Question, ...] = (
    Question(3.0, "What is visible now?", expected="a red circle"),
    Question(6.0, "Which way does the red circle move?", ("left", "right", "up", "down"), "right"),
    Question(9.5, "How many objects are there?", expected="2"),
    Question(13.5, "What disappeared last?", expected="a red circle"),
    Question(17.5, "What appeared before the green triangle?", expected="a blue square"),
    Question(
        19.0, "Where is the green triangle?", ("top left", "top right", "bottom left", "bottom right"), "top left"
    ),
    Question(22.0, "Did the square change its colour?", expected="from blue to yellow"),
    Question(23.0, "What appeared first?", expected="a red circle"),
)
"""For the recording that comes with the package; see `scene.py` for what it shows."""


def spread_over(seconds: float, texts: Sequence[str] = ()) -> tuple[Question, ...]:
    """Questions for any video, at even distances over its `seconds`; with `texts`, these."""
    if texts:
        drafts: list[tuple[str, tuple[str, ...]]] = [(text, ()) for text in texts]
    else:
        drafts = [
            ("What is visible now?", ()),
            ("What is happening?", ()),
            ("Is anything moving?", ("yes", "no")),
            ("What happened so far?", ()),
            ("Describe the scene.", ()),
        ]
    step = seconds / (len(drafts) + 0.5)
    return tuple(Question((i + 1) * step, text, choices) for i, (text, choices) in enumerate(drafts))
