"""The messages of a replay, round after round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stream_vl_ros.bag.cdr import NANOSECONDS
from stream_vl_ros.bag.reader import Message, Topic
from stream_vl_ros.bag.recording import Recording


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a recording by log time, nanoseconds: from `start` up to, and without, `stop`; None for the end."""

    start: int
    stop: int | None = None


def rounds(bag: Recording, topics: Sequence[Topic], span: Span, *, loop: bool) -> Iterator[tuple[Message, int]]:
    """Messages of `span`, each with the nanoseconds by which its round is later than the first one.

    With `loop` the span must hold a message.

    Raises:
        BagError: the bag breaks off or is damaged.
    """
    shift = 0
    while True:
        last = span.start
        counts: Counter[str] = Counter()
        for message in bag.messages(*topics, start=span.start, stop=span.stop):
            yield message, shift
            last = message.log_time
            counts[message.topic.name] += 1
        if not loop:
            return
        shift += last - span.start + _pause(topics, counts, last - span.start)


def _pause(topics: Sequence[Topic], counts: Counter[str], length: int) -> int:
    """Nanoseconds between two rounds, so that time neither stands still nor runs backwards.

    The mean distance of the busiest topic's images; of a single image that in the whole bag.
    """
    name, count = counts.most_common(1)[0]
    if count > 1:
        return max(1, length // (count - 1))
    rate = next(topic.rate for topic in topics if topic.name == name)
    return round(NANOSECONDS / rate) if rate else NANOSECONDS
