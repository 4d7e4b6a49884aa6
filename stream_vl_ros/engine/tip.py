"""The frames that wait for their chunk, read on a fork of the stream for the questions that see them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import groupby

from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.positions import VideoSegment
from stream_vl_ros.engine.reader import Reader, VideoRead
from stream_vl_ros.engine.stream_state import StreamState
from stream_vl_ros.engine.visual import VisualTokens

# Visual tokens that are read before other work gets its turn.
PIECE = 400


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the tip has come: frames that were read last, and cache and state with them."""

    frames: Sequence[Frame]
    length: int
    state: StreamState


class Tip:
    """A fork of a stream at one state that goes on reading as frames come. Forks of it are what questions begin with.

    Large pictures are read pair by pair, so that a later moment needs only what came since. An odd frame, which was
    read doubled, is read again once its other half is there.
    """

    def __init__(self, reader: Reader, visual: VisualTokens, state: StreamState, cache: KVCache, pair: int) -> None:
        """On `cache`, a fork of the stream at `state`; `pair` frames are read together."""
        self.state = state
        self._reader, self._visual, self._cache, self._pair = reader, visual, cache, pair
        self._marks = [Mark((), cache.length, state)]
        self._under_way: tuple[Sequence[Frame], Generator[None, None, VideoRead]] | None = None

    def has(self, frames: Sequence[Frame]) -> bool:
        """Whether it holds these frames behind the stream's, and no others."""
        return self._common(units := self._units(frames)) == len(units) == len(self._marks) - 1

    def advance(self, frames: Sequence[Frame]) -> None:
        """Do one piece of the work that is missing until it `has` these frames. If that fails it can be tried again."""
        units = self._units(frames)
        common = self._common(units)
        if common < len(self._marks) - 1:
            del self._marks[common + 1 :]
            self._begin_again()
        if common == len(units):
            return
        unit, last = units[common], self._marks[-1]
        if self._under_way is None or not _same(self._under_way[0], unit):
            self._begin_again()
            self._under_way = unit, self._reader.steps(unit, self._visual, last.state, self._cache, PIECE)
        try:
            next(self._under_way[1])
        except StopIteration as end:
            self._under_way = None
            read: VideoRead = end.value
            self._marks.append(Mark(unit, self._cache.length, read.onto(last.state, unit)))
        except BaseException:
            self._begin_again()
            raise

    def fork(self) -> tuple[KVCache, VideoSegment]:
        """A fork with all that was read, and the segment that it ends in."""
        segment = self._marks[-1].state.segment
        assert segment is not None
        return self._cache.fork(), segment

    def _begin_again(self) -> None:
        self._under_way = None
        self._cache.truncate(self._marks[-1].length)

    def _units(self, frames: Sequence[Frame]) -> list[Sequence[Frame]]:
        """What is read in one go each."""
        if not self._visual.large:
            return [frames]
        spans = [list(group) for _, group in groupby(frames, key=lambda f: f.span)]
        return [span[i : i + self._pair] for span in spans for i in range(0, len(span), self._pair)]

    def _common(self, units: Sequence[Sequence[Frame]]) -> int:
        """How many of the first units it holds."""
        count = 0
        for mark, unit in zip(self._marks[1:], units, strict=False):
            if not _same(mark.frames, unit):
                break
            count += 1
        return count


def _same(a: Sequence[Frame], b: Sequence[Frame]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))
