"""Answers that are bound to a regular expression or a JSON schema, by llguidance.

llguidance (Apache-2.0 or MIT) computes which tokens may come next on the CPU, in some 50 microseconds per token for
a vocabulary of 128,000, and needs no compilation of a grammar beforehand. It was chosen over xgrammar, which brings a
TVM runtime along, and outlines-core, which precomputes an index per expression, because one wheel without
dependencies serves every Python on x86-64 and on robots' ARM alike.
"""

from __future__ import annotations

import functools
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import torch
from torch import Tensor

from stream_vl_ros.brief import brief, shown
from stream_vl_ros.errors import PromptError, RequestError

MAX_GRAMMAR_CHARACTERS = 100_000
# Work that an expression may make when it is first looked at. It happens between two chunks of video: with the
# library's own million, an expression such as ((a{1000}){1000}){1000} held the video up for more than a second.
_LIMITS = llguidance.LLParserLimits(initial_lexer_fuel=200_000, verbose_errors=False)


@functools.lru_cache(maxsize=256)
def check_grammar(regex: str, json_schema: str) -> str:
    """The grammar of a question in llguidance's own form; empty without one.

    Raises `PromptError` if both are given, or if one cannot be understood.
    """
    if regex and json_schema:
        raise PromptError("regex and json_schema cannot both be asked for; give one of them")
    given = regex or json_schema
    if not given:
        return ""
    name = "regex" if regex else "json_schema"
    if len(given) > MAX_GRAMMAR_CHARACTERS:
        raise PromptError(f"{name} of {len(given)} characters: at most {MAX_GRAMMAR_CHARACTERS} are allowed")
    try:
        if regex:
            grammar = llguidance.LLMatcher.grammar_from_regex(regex)
        else:
            grammar = llguidance.LLMatcher.grammar_from_json_schema(json_schema)
        problem = llguidance.LLMatcher.validate_grammar(grammar, None)
    except Exception as error:  # the library's own exceptions are plain ValueErrors and the like
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise PromptError(f"{name}={shown(given, 200)} cannot be used: {brief(' '.join(str(problem).split()), 600)}")
    return grammar


class Constraint:
    """The state of one bound answer: which tokens may come next."""

    def __init__(self, tokenizer: Any, vocabulary: int, grammar: str) -> None:
        """Nothing is written yet.

        Args:
            tokenizer: transformers' fast tokenizer.
            vocabulary: scores per token of the model; may be more than the tokenizer has tokens.
            grammar: of `check_grammar`.
        """
        self._matcher = llguidance.LLMatcher(_trie(tokenizer, vocabulary), grammar, log_level=0, limits=_LIMITS)
        self._vocabulary = vocabulary
        self._check()

    def mask(self, logits: Tensor) -> Tensor:
        """The scores, (vocabulary,), with those of tokens that may not come next at minus infinity."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        allowed = np.unpackbits(bits, bitorder="little")[: self._vocabulary].astype(bool)
        if not allowed.any():
            raise RequestError("no token can go on in the way that was asked for; change the regex or json_schema")
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)

    def accept(self, token: int) -> None:
        """Go on with a token that was chosen."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def finished(self) -> bool:
        """Whether nothing can follow any more."""
        return bool(self._matcher.is_stopped())

    @property
    def fulfilled(self) -> bool:
        """Whether what was written is a whole answer, whatever might follow."""
        return bool(self._matcher.is_accepting())

    def _check(self) -> None:
        if self._matcher.is_error():
            # Behind its first line the library tells its own state.
            reason = brief(self._matcher.get_error().strip().partition("\n")[0], 300)
            raise RequestError(
                f"the answer could not be kept to its grammar: {reason}; write a simpler regex or json_schema"
            )


@functools.lru_cache(maxsize=8)
def _trie(tokenizer: Any, vocabulary: int) -> llguidance.LLTokenizer:
    return llguidance.hf.from_tokenizer(tokenizer, vocabulary)
