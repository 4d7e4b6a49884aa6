"""What a step says of the tokens that may come next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class NextTokens:
    """Of each row that made a step.

    Attributes:
        scores: float32, (rows, vocabulary).
        best: waits for the tokens of the highest scores, and returns them.
    """

    scores: Tensor
    best: Callable[[], list[int]]
