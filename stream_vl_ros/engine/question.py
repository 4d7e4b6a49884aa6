"""A question and how its answer is to be written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stream_vl_ros.engine.config import require
from stream_vl_ros.engine.constrained import check_grammar
from stream_vl_ros.engine.prompt import check_choices, check_question
from stream_vl_ros.errors import PromptError

DEFAULT_MAX_NEW_TOKENS = 128
MAX_STOP_STRINGS = 16
# Scores are divided by it, and must stay numbers.
MIN_TEMPERATURE = 1e-4


@dataclass(frozen=True, slots=True)
class Turn:
    """A question that was asked before, and what was answered."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Question:
    r"""A question, checked when it is made.

    >>> Question(" What is visible now? ", regex="(a|an) .*", stop=(".",)).text
    'What is visible now?'
    >>> Question("")
    Traceback (most recent call last):
    stream_vl_ros.errors.PromptError: question='': it is empty; ask something, e.g. 'What is visible now?'

    Attributes:
        text: the question; special tokens in it count as text.
        choices: options to score as whole answers; empty for a free answer.
        max_new_tokens: longest free answer, in tokens.
        temperature: 0 for the most probable token each time; otherwise (from 0.0001 to 100) tokens are drawn, from a
            flatter distribution the higher it is.
        top_p: drawn from the most probable tokens that make up this part of the probability (nucleus sampling,
            arXiv 1904.09751); 1 for all.
        top_k: drawn from this many most probable tokens; 0 for all.
        seed: the same seed draws the same answer; None draws another one each time.
        stop: strings that end the answer; they are not part of it.
        regex: regular expression (Rust's syntax) that the answer as a whole matches, e.g. ``r"\d+ (cats|dogs)"``.
        json_schema: JSON schema that the answer fulfils, as text or as a mapping.
        normalise: whether an option's score is the mean of its tokens' log-probabilities, so that long options have
            the same chance as short ones, or their sum, the log-probability of the option itself.
        history: earlier turns of a dialogue about the same video, oldest first.

    Raises:
        PromptError: for a text, options, a grammar or a history that cannot be used.
        ConfigError: for a number that cannot be used.
    """

    text: str
    choices: tuple[str, ...] = ()
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    regex: str = ""
    json_schema: str | Mapping[str, Any] = ""
    normalise: bool = True
    history: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", check_question(self.text))
        object.__setattr__(self, "choices", check_choices(self.choices) if self.choices else ())
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "history", tuple(Turn(check_question(t.question), t.answer) for t in self.history))
        if not isinstance(self.json_schema, str):
            object.__setattr__(self, "json_schema", json.dumps(self.json_schema))
        require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "must be at least 1")
        require(
            self.temperature == 0 or MIN_TEMPERATURE <= self.temperature <= 100,
            "temperature",
            self.temperature,
            f"must be 0 (greedy) or from {MIN_TEMPERATURE} to 100; 0.7 is usual",
        )
        require(0 < self.top_p <= 1, "top_p", self.top_p, "must lie above 0 and at most 1 (all tokens)")
        require(self.top_k >= 0, "top_k", self.top_k, "must be 0 (all tokens) or positive")
        require(
            self.seed is None or 0 <= self.seed < 2**63, "seed", self.seed, "must be None or between 0 and 2**63 - 1"
        )
        self._check_grammar()

    @property
    def grammar(self) -> str:
        """What the answer is bound to, in the form of `constrained.Constraint`; empty if to nothing."""
        return check_grammar(self.regex, str(self.json_schema))

    def _check_grammar(self) -> None:
        if self.grammar and self.choices:
            raise PromptError(
                "choices are scored, not written: leave out regex and json_schema, or bind a free answer to "
                "a regex such as 'yes|no'"
            )


def _stop_strings(stop: Sequence[str]) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    if "" in strings:
        raise PromptError(f"stop={list(strings)!r}: an empty string would end every answer at once; leave it out")
    if len(strings) > MAX_STOP_STRINGS:
        raise PromptError(f"{len(strings)} stop strings: at most {MAX_STOP_STRINGS} are looked for")
    return strings
