"""A standing question: asked again after every chunk of video, and heard of only when its answer changes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from stream_vl_ros.engine.answer import Moment
from stream_vl_ros.engine.config import require
from stream_vl_ros.engine.prompt import check_choices, check_question
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.errors import ConfigError, PromptError

DEFAULT_OPTIONS = ("yes", "no")
DEFAULT_THRESHOLD = 0.5
DEFAULT_HYSTERESIS = 0.1
# A standing question is read after every chunk. No tokenizer makes more tokens of a text than it has bytes.
MAX_BYTES = 1024

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Watch:
    """A question with options that is asked after every chunk, and when it counts as fired.

    The probability of an option is what is left of it when only the options are possible answers: the softmax over
    their log-probabilities, each that of the whole option and the end of the turn. It does not depend on how long the
    other texts are that the model might have written instead.

    >>> Watch("door", "Is the door open?").fires_on
    'yes'
    >>> Watch("door", "Is the door open?", threshold=1.5)
    Traceback (most recent call last):
    stream_vl_ros.errors.ConfigError: threshold=1.5: must lie above 0 and at most 1; it is the probability of 'yes'

    Attributes:
        name: how it is called: a letter, then letters, digits and underscores.
        question: plain text; special tokens in it count as text.
        options: what may be answered.
        fires_on: the option that makes it fire; the first one if empty.
        threshold: probability of that option from which on it fires.
        hysteresis: it stops firing when the probability falls below ``threshold - hysteresis``.
        min_interval: seconds of video between two changes, by header stamp; what changes sooner is told when they are
            over, if it still holds.

    Raises:
        ConfigError: for a name or a number that cannot be used.
        PromptError: for a question or options that cannot be used.
    """

    name: str
    question: str
    options: tuple[str, ...] = DEFAULT_OPTIONS
    fires_on: str = ""
    threshold: float = DEFAULT_THRESHOLD
    hysteresis: float = DEFAULT_HYSTERESIS
    min_interval: float = 0.0

    def __post_init__(self) -> None:
        check_name(self.name)
        object.__setattr__(self, "question", check_question(self.question))
        object.__setattr__(self, "options", check_choices(self.options))
        size = len("".join((self.question, *self.options)).encode("utf-8", "replace"))
        if size > MAX_BYTES:
            raise PromptError(
                f"question={self.question[:40]!r}...: {size} bytes with its options, at most {MAX_BYTES} are read "
                "after every chunk; shorten it"
            )
        if not self.fires_on:
            object.__setattr__(self, "fires_on", self.options[0])
        require(
            self.fires_on in self.options,
            "fires_on",
            self.fires_on,
            f"is not one of the options {', '.join(map(repr, self.options))}",
        )
        require(
            0 < self.threshold <= 1,
            "threshold",
            self.threshold,
            f"must lie above 0 and at most 1; it is the probability of {self.fires_on!r}",
        )
        require(
            0 <= self.hysteresis < self.threshold,
            "hysteresis",
            self.hysteresis,
            f"must lie between 0 and below threshold ({self.threshold}), or it would never stop firing",
        )
        require(
            0 <= self.min_interval < math.inf,
            "min_interval",
            self.min_interval,
            "must be 0 (every change is told) or a number of seconds",
        )

    def probabilities(self, scores: Sequence[float]) -> tuple[float, ...]:
        """Probability of each option, from their log-probabilities."""
        best = max(scores)
        weights = [math.exp(s - best) for s in scores]
        return tuple(w / sum(weights) for w in weights)

    def probability(self, scores: Sequence[float]) -> float:
        """Probability of the option that it fires on."""
        return self.probabilities(scores)[self.options.index(self.fires_on)]


@dataclass(slots=True)
class WatchState:
    """Whether a watch is firing. It begins with not firing, so the first change is that it fires."""

    watch: Watch
    firing: bool = False
    _seen_ns: int | None = None  # stamp of the last update
    _changed_ns: int | None = None  # stamp of the last change

    def update(self, probability: float, stamp_ns: int) -> bool:
        """Take the probability at a stamp. Returns whether that changes `firing`.

        A stamp that lies before the last one, as when a recording begins anew, ends any `min_interval`.
        """
        watch = self.watch
        if self._seen_ns is not None and stamp_ns < self._seen_ns:
            self._changed_ns = None
        self._seen_ns = stamp_ns
        limit = watch.threshold - watch.hysteresis if self.firing else watch.threshold
        fires = probability >= limit
        if fires == self.firing:
            return False
        interval_ns = round(watch.min_interval * NANOSECONDS)
        if self._changed_ns is not None and stamp_ns - self._changed_ns < interval_ns:
            return False
        self.firing, self._changed_ns = fires, stamp_ns
        return True


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A watch that began to fire, or stopped.

    Attributes:
        watch: the watch.
        fired: True if it fires from now on, False if it stopped.
        option: the most probable option.
        probability: of the option that it fires on.
        scores: log-probability of each option in nats, in their order.
        moment: the video that was seen; its last stamp is that of the newest frame.
        previous_stamp_ns: newest frame of the look before, so that what changed came after it; 0 at the first look.
        seconds: that scoring took, all watches together.
        removed: it stopped because nobody asks it any more; the rest is what was seen last.
    """

    watch: Watch
    fired: bool
    option: str
    probability: float
    scores: tuple[float, ...]
    moment: Moment
    previous_stamp_ns: int
    seconds: float
    removed: bool = False


def check_name(name: str) -> None:
    """Raise `ConfigError` for what cannot be the name of a watch."""
    require(
        _NAME.fullmatch(name) is not None,
        "name",
        name,
        "must be a letter, then letters, digits and underscores, 64 at the most; e.g. 'door_open'",
    )


def check_new(name: str, names: Sequence[str], most: int) -> None:
    """Raise `ConfigError` if there cannot be a watch of this name beside the others."""
    if name in names:
        raise ConfigError(f"name={name!r}: there is a watch of that name; remove it first, or choose another one")
    require(len(names) < most, "name", name, f"there are {most} watches already; remove one first")
