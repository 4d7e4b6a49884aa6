"""Questions to whatever can be forked."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from stream_vl_ros.engine.answer import Answer
from stream_vl_ros.engine.batch import DecodeBatch
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.generation import Generation
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.prompt import check_choices
from stream_vl_ros.engine.question import DEFAULT_MAX_NEW_TOKENS, Question


class Askable(ABC):
    """Answers questions on forks of itself, at once."""

    model: LoadedModel

    @abstractmethod
    def fork(self) -> Fork:
        """A private continuation that has seen everything up to now."""

    def start(self, question: Question, asked_at: float | None = None) -> Generation:
        """Fork and get ready to answer; the caller drives the returned generation."""
        asked_at = time.monotonic() if asked_at is None else asked_at
        return Generation(self.model, self.fork(), question, asked_at)

    def ask(
        self,
        question: str | Question,
        choices: Sequence[str] = (),
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        **options: Any,
    ) -> Answer:
        """Answer a question about the video so far, on a fork. The stream does not change.

        Args:
            question: plain text; or a `Question`, and nothing else.
            choices: options; if given, the best one is returned with the scores of all.
            max_new_tokens: longest free answer.
            options: other fields of `Question`, such as ``temperature``, ``seed``, ``stop``, ``regex`` or ``history``.

        Raises:
            PromptError: for an empty question, unusable choices and so on.
            NoVideoError: before the first frame.
        """
        if isinstance(question, str):
            question = Question(question, tuple(choices), max_new_tokens, **options)
        return self.start(question).run()

    def ask_choice(self, question: str, choices: Sequence[str], **options: Any) -> Answer:
        """`ask` with options. Raises `PromptError` for fewer than two, an empty one, or two equal ones."""
        return self.start(Question(question, check_choices(choices), **options)).run()

    def ask_many(self, questions: Iterable[str | Question]) -> list[Answer]:
        """Answer several questions about this moment side by side; each answer is the one that `ask` gives.

        The video is read once per step for all of them, so k answers take far less than k times as long as one.
        """
        generations = [self.start(Question(q) if isinstance(q, str) else q) for q in questions]
        batch = DecodeBatch(self.model)
        for generation in generations:
            generation.prefill()
            if not generation.done:
                batch.add(generation)
        while len(batch):
            for failure in batch.step():
                raise failure.error
        return [g.answer() for g in generations]
