"""What comes back from a question."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Finish(Enum):
    """Why an answer ended."""

    STOP = "stop"  # the model ended its turn, or the grammar of the answer was complete
    STOP_STRING = "stop_string"  # one of the question's stop strings came
    LENGTH = "length"  # max_new_tokens were written
    CHOICE = "choice"  # options were scored
    TIMEOUT = "timeout"  # the deadline passed
    CANCELLED = "cancelled"  # the caller gave up


@dataclass(frozen=True, slots=True)
class Moment:
    """The video that a fork saw, and the size of the cache that it was taken from.

    Attributes:
        frames: frames seen, those that waited for their chunk included.
        first_stamp_ns, last_stamp_ns: header stamps of the first and last of them, in the order of arrival; 0 without
            frames. The first may be the larger one, after a jump back in time.
        cache_tokens: tokens in the stream's KV cache.
        cache_bytes: bytes of the tensors that hold them, spare room included.
    """

    frames: int
    first_stamp_ns: int
    last_stamp_ns: int
    cache_tokens: int
    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and how it came about.

    Attributes:
        text: the answer, or the chosen option as it was given.
        token_ids: its tokens, without the one that ended the turn; empty for a choice.
        scores: per option the mean, or with ``normalise=False`` the sum, of the log-probabilities of its tokens and the
            end of the turn, in nats; empty for a free answer.
        finish: why it ended.
        moment: what it saw.
        ttft: seconds from the question to the first token.
        total_time: seconds from the question to the end.
        remembered: whether the turn became part of the stream.
        fulfilled: whether the text is all of what the question's regex or json_schema asks for; True without one.
    """

    text: str
    token_ids: tuple[int, ...]
    scores: tuple[float, ...]
    finish: Finish
    moment: Moment
    ttft: float
    total_time: float
    remembered: bool = False
    fulfilled: bool = True

    @property
    def complete(self) -> bool:
        """Whether it ended by itself or at the length that was asked for, and is no half of a regex or schema."""
        ended = self.finish in (Finish.STOP, Finish.STOP_STRING, Finish.LENGTH, Finish.CHOICE)
        return ended and self.fulfilled
