"""Answering on a fork, one step at a time, so that a scheduler can do other work between steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from stream_vl_ros.engine.answer import Answer, Finish
from stream_vl_ros.engine.answer_text import AnswerText
from stream_vl_ros.engine.constrained import Constraint
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.prompt import check_length, dialogue_ids, text_ids
from stream_vl_ros.engine.question import Question
from stream_vl_ros.engine.selection import TokenChooser


@dataclass(slots=True, eq=False)
class Generation:
    """One question being answered on its own fork.

    `prefill` reads the question, then each `step` writes one token until `done`; `answer` tells how far it came.
    Instead of `step`, a batch feeds `next_token` to the model and hands the scores to `take`.
    """

    model: LoadedModel
    fork: Fork
    question: Question
    asked_at: float = field(default_factory=time.monotonic)
    finish: Finish | None = None
    tokens: list[int] = field(default_factory=list)
    scores: tuple[float, ...] = ()
    _chooser: TokenChooser = field(init=False)
    _text: AnswerText = field(init=False)
    _constraint: Constraint | None = None
    _chosen: str = ""
    _chosen_told: bool = False
    _first_at: float | None = None
    _ended_at: float | None = None

    def __post_init__(self) -> None:
        self._chooser = TokenChooser(self.question)
        self._text = AnswerText(self.model.tokenizer, self.question.stop)

    @property
    def done(self) -> bool:
        return self.finish is not None

    def prefill(self) -> None:
        """Read the question. Afterwards the first token is written, or the best option is known.

        Raises `PromptError` for a question that is too long; `finish` is set then.
        """
        history = [(t.question, t.answer) for t in self.question.history]
        ids = dialogue_ids(self.model.tokenizer, self.fork.ask, self.fork.follow_up, history, self.question.text)
        check_length(ids, "the question with its dialogue" if history else "the question")
        logits = self.fork.feed(ids)
        if self.question.choices:
            self._choose(logits)
            return
        if self.question.grammar:
            self._constraint = Constraint(self.model.tokenizer, logits.shape[-1], self.question.grammar)
        self.take(logits)

    def step(self) -> None:
        """Write the next token."""
        found = self.fork.write(self.next_token, more=self.predictable)
        self.take(found.scores[0], found.best()[0] if self._takes_best else None)

    @property
    def next_token(self) -> int:
        """The token that has to be fed to the model next."""
        assert self.finish is None and self.tokens, "after prefill() and before the end"
        return self.tokens[-1]

    @property
    def predictable(self) -> bool:
        """Whether the best token will be written next, and another step follows unless that token ends the answer."""
        return self._takes_best and len(self.tokens) + 1 < self.question.max_new_tokens

    @property
    def _takes_best(self) -> bool:
        return self._chooser.greedy and self._constraint is None

    def take(self, logits: Tensor, best: int | None = None) -> None:
        """Choose the next token from its scores, float32 (vocabulary,); the answer may end with it.

        `best` is the token of the highest score, if that is known already.
        """
        if best is not None and self._takes_best:
            token = best
        else:
            token = self._chooser.choose(self._constraint.mask(logits) if self._constraint else logits)
        if self._first_at is None:
            self._first_at = time.monotonic()
        if token in self.model.eos_ids:
            self.stop(Finish.STOP)
            return
        self.tokens.append(token)
        self._text.add(token)
        if self._constraint:
            self._constraint.accept(token)
        if self._text.stopped:
            self.stop(Finish.STOP_STRING)
        elif self._constraint and self._constraint.finished:
            self.stop(Finish.STOP)
        elif len(self.tokens) >= self.question.max_new_tokens:
            self.stop(Finish.LENGTH)

    def run(self) -> Answer:
        """Do all that is left to do."""
        try:
            if self._first_at is None:
                self.prefill()
            while not self.done:
                self.step()
        except BaseException:
            self.stop(Finish.CANCELLED)
            raise
        return self.answer()

    def stop(self, finish: Finish) -> None:
        """End it here, with what was written."""
        if self.finish is None:
            self.finish = finish
            self._ended_at = time.monotonic()
            self.fork.close()

    def news(self) -> str:
        """Text that was written since the last call; all pieces together are the answer's text.

        Never half a character, and nothing that may turn out to be a stop string.
        """
        if self._chosen:
            text, self._chosen_told = ("" if self._chosen_told else self._chosen), True
            return text
        return self._text.news(finished=self.done)

    def answer(self) -> Answer:
        """The answer so far."""
        now = time.monotonic()
        ended = self._ended_at if self._ended_at is not None else now
        first = self._first_at if self._first_at is not None else ended
        return Answer(
            text=self._chosen or self._text.text,
            token_ids=tuple(self.tokens),
            scores=self.scores,
            finish=self.finish or Finish.CANCELLED,
            moment=self.fork.moment,
            ttft=first - self.asked_at,
            total_time=ended - self.asked_at,
            fulfilled=self._constraint is None or self.finish is Finish.STOP or self._constraint.fulfilled,
        )

    def _choose(self, logits: Tensor) -> None:
        choices = self.question.choices
        options = option_ids(self.model, choices)
        check_length([i for option in options for i in option], "the list of choices")
        scores = self.fork.score(logits, options)
        self.scores = tuple(float(s.mean() if self.question.normalise else s.sum()) for s in scores)
        self._chosen = choices[max(range(len(choices)), key=lambda i: self.scores[i])]
        self._first_at = time.monotonic()
        self.stop(Finish.CHOICE)


def option_ids(model: LoadedModel, choices: Sequence[str]) -> list[list[int]]:
    """Tokens of each option as a whole answer: its text and the token that ends the turn.

    With the end counted, "red" does not win over "red car" for being its beginning.
    """
    return [[*text_ids(model.tokenizer, c.strip()), model.tokenizer.eos_token_id] for c in choices]
