"""Answering on a fork, one step at a time, so that a scheduler can do other work between steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from stream_vl_ros.engine.answer import Answer, Finish
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.prompt import check_choices, check_length, check_question, text_ids
from stream_vl_ros.errors import ConfigError

DEFAULT_MAX_NEW_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Question:
    """A question, checked when it is made.

    Attributes:
        text: the question; special tokens in it count as text.
        choices: options to score as whole answers; empty for a free answer.
        max_new_tokens: longest free answer, in tokens.
    """

    text: str
    choices: tuple[str, ...] = ()
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", check_question(self.text))
        if self.choices:
            object.__setattr__(self, "choices", check_choices(self.choices))
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens={self.max_new_tokens}: must be at least 1")


@dataclass(slots=True, eq=False)
class Generation:
    """One question being answered on its own fork.

    `prefill` reads the question, then each `step` writes one token until `done`; `answer` tells how far it came.
    Greedy decoding: the most probable token each time.
    """

    model: LoadedModel
    fork: Fork
    question: Question
    asked_at: float = field(default_factory=time.monotonic)
    finish: Finish | None = None
    tokens: list[int] = field(default_factory=list)
    scores: tuple[float, ...] = ()
    _chosen: str = ""
    _logits: Tensor | None = None
    _first_at: float | None = None
    _ended_at: float | None = None

    @property
    def done(self) -> bool:
        return self.finish is not None

    def prefill(self) -> None:
        """Read the question. Afterwards the first token is written, or the best option is known."""
        ids = self.fork.ask.tokens(self.model.tokenizer, question=self.question.text)
        check_length(ids, "the question")
        self._logits = self.fork.feed(ids)
        if self.question.choices:
            self._choose()
        else:
            self._write()

    def step(self) -> None:
        """Write the next token."""
        self.take(self.fork.feed([self.next_token]))

    @property
    def next_token(self) -> int:
        """The token that has to be fed to the model next."""
        assert self.finish is None and self.tokens, "after prefill() and before the end"
        return self.tokens[-1]

    def take(self, logits: Tensor) -> None:
        """Choose the next token from its scores, float32 (vocabulary,); the answer may end with it."""
        self._logits = logits
        self._write()

    def run(self) -> Answer:
        """Do all that is left to do."""
        if self._first_at is None:
            self.prefill()
        while not self.done:
            self.step()
        return self.answer()

    def stop(self, finish: Finish) -> None:
        """End it here, with what was written."""
        if self.finish is None:
            self.finish = finish
            self._ended_at = time.monotonic()
            self._logits = None
            self.fork.close()

    def answer(self) -> Answer:
        """The answer so far."""
        now = time.monotonic()
        ended = self._ended_at if self._ended_at is not None else now
        first = self._first_at if self._first_at is not None else ended
        text = self._chosen or self.model.tokenizer.decode(self.tokens, skip_special_tokens=True).strip()
        return Answer(
            text=text,
            token_ids=tuple(self.tokens),
            scores=self.scores,
            finish=self.finish or Finish.CANCELLED,
            moment=self.fork.moment,
            ttft=first - self.asked_at,
            total_time=ended - self.asked_at,
        )

    def _write(self) -> None:
        assert self._logits is not None
        token = int(self._logits.argmax())
        if self._first_at is None:
            self._first_at = time.monotonic()
        if token in self.model.eos_ids:
            self.stop(Finish.STOP)
            return
        self.tokens.append(token)
        if len(self.tokens) >= self.question.max_new_tokens:
            self.stop(Finish.LENGTH)

    def _choose(self) -> None:
        assert self._logits is not None
        choices = self.question.choices
        options = option_ids(self.model, choices)
        check_length([i for option in options for i in option], "the list of choices")
        self.scores = tuple(float(s.mean()) for s in self.fork.score(self._logits, options))
        self._chosen = choices[max(range(len(choices)), key=lambda i: self.scores[i])]
        self._first_at = time.monotonic()
        self.stop(Finish.CHOICE)


def option_ids(model: LoadedModel, choices: Sequence[str]) -> list[list[int]]:
    """Tokens of each option as a whole answer: its text and the token that ends the turn.

    With the end counted, "red" does not win over "red car" for being its beginning.
    """
    return [[*text_ids(model.tokenizer, c.strip()), model.tokenizer.eos_token_id] for c in choices]
