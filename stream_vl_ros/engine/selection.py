"""Choosing the next token from the scores of all."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stream_vl_ros.engine.question import Question


class TokenChooser:
    """Greedy, or drawn as transformers' `generate` would: temperature, then top-k, then top-p."""

    def __init__(self, question: Question) -> None:
        self.greedy = question.temperature == 0
        self._warpers: list[LogitsProcessor] = []
        self._random = torch.Generator()
        if self.greedy:
            return
        if question.temperature != 1:
            self._warpers.append(TemperatureLogitsWarper(float(question.temperature)))
        if question.top_k:
            self._warpers.append(TopKLogitsWarper(question.top_k))
        if question.top_p < 1:
            self._warpers.append(TopPLogitsWarper(question.top_p))
        if question.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(question.seed)

    def choose(self, logits: Tensor) -> int:
        """A token, from scores of shape (vocabulary,), float32; minus infinity is never chosen."""
        if self.greedy:
            return int(logits.argmax())
        return int(torch.multinomial(self.probabilities(logits), 1, generator=self._random))

    def probabilities(self, logits: Tensor) -> Tensor:
        """What tokens are drawn from: (vocabulary,), float32 on the CPU."""
        scores = logits[None]
        for warper in self._warpers:
            # The warpers named above look at the scores alone; transformers asks for the tokens so far all the same.
            scores = warper(torch.empty(1, 0, dtype=torch.int64), scores)
        return torch.softmax(scores[0], dim=-1).cpu()
