"""What the model reads of a stream: frames of video, and text between them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import torch
from torch import Tensor

from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.memory.ledger import Block
from stream_vl_ros.engine.memory.still import LastRead, StillFilter
from stream_vl_ros.engine.positions import VideoSegment, text_positions
from stream_vl_ros.engine.prompt import PromptPieces
from stream_vl_ros.engine.stream_state import StreamState
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.engine.visual import VisualTokens

Size = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames of one span, to be read in one go, and where they go.

    Attributes:
        frames: of which an odd last one counts twice.
        ids: tokens of the text in front of them, if a segment begins here.
        start: position of that text.
        before, after: the segment without and with them.
        positions: of their visual tokens, int64 (3, tokens).
        border: the text merely ends a video of the same turn.
    """

    frames: Sequence[Frame]
    ids: Sequence[int]
    start: int
    before: VideoSegment
    after: VideoSegment
    positions: Tensor
    border: bool

    @property
    def tokens(self) -> int:
        """Tokens of text and video together, at the most."""
        return len(self.ids) + self.positions.shape[1]


@dataclass(frozen=True, slots=True)
class VideoRead:
    """Frames that were read: the segment that they end in, what came into the cache, and the pictures."""

    segment: VideoSegment
    blocks: tuple[Block, ...]
    last_read: LastRead | None

    def onto(self, state: StreamState, frames: Sequence[Frame]) -> StreamState:
        """What a stream at `state` is with these frames, which were read."""
        return replace(
            state,
            segment=self.segment,
            answered=False,
            frames=state.frames + len(frames),
            span=frames[-1].span,
            first_stamp_ns=state.first_stamp_ns if state.frames else frames[0].stamp_ns,
            last_stamp_ns=frames[-1].stamp_ns,
            ledger=state.ledger.grown(*self.blocks),
            last_read=self.last_read,
        )


class Reader:
    """Runs the model over what a stream takes in. It holds no state of the stream."""

    def __init__(self, model: LoadedModel, pieces: PromptPieces, config: StreamConfig) -> None:
        self._adapter = model.adapter
        self._tokenizer = model.tokenizer
        self._pieces = pieces
        self._config = config
        self._after_maximum = config.text_base == "trained" or model.adapter.text_after_maximum
        refresh_ns = round(config.still_refresh * NANOSECONDS)
        self._still = StillFilter(config.still_threshold, refresh_ns, model.adapter.geometry)

    def text_start(self, state: StreamState) -> int:
        """Position of text that follows what the stream holds."""
        return state.position if state.segment is None else state.segment.text_start(self._after_maximum)

    def text_end(self, segment: VideoSegment) -> int:
        """Position of text that follows a segment."""
        return segment.text_start(self._after_maximum)

    def text(self, ids: Sequence[int], start: int, cache: KVCache) -> Block:
        """Read text from position `start` on."""
        embeds = self._adapter.embed_text(torch.tensor([list(ids)], device=self._adapter.device))
        self._adapter.forward(embeds, text_positions(start, len(ids)), cache)
        return Block(len(ids), start)

    def stretches(self, frames: Sequence[Frame], size: Size, state: StreamState) -> Iterator[Stretch]:
        """How frames of height and width `size` continue a stream at `state`: one stretch for each of their spans.

        A frame of the span that the stream is in goes on in its segment. Another span is another video of the same
        turn, as if the user had sent two: a border and a new segment.
        """
        pair, grid = self._adapter.geometry.temporal, self._adapter.geometry.grid(*size)
        segment, span, start, answered = state.segment, state.span, state.position, state.answered
        for number, group in groupby(frames, key=lambda f: f.span):
            stretch, ids, border = list(group), [], False
            if segment is not None and number != span:
                start, border = self.text_end(segment), True
                ids = self._pieces.border.tokens(self._tokenizer)
            elif segment is None and answered:
                ids = self._pieces.reopen.tokens(self._tokenizer)
            before = segment
            if before is None or border:
                before = VideoSegment(start + len(ids), grid, self._adapter.tokens_per_second)
            after, positions = before.extend([f.time_ns for f in stretch[::pair]])
            yield Stretch(stretch, ids, start, before, after, positions, border)
            segment, span = after, number

    def video(self, frames: Sequence[Frame], visual: VisualTokens, state: StreamState, cache: KVCache) -> VideoRead:
        """Read frames on top of `cache`, which holds what the stream does at `state`.

        An odd last frame of a span is doubled.
        """
        return _all_of(self.steps(frames, visual, state, cache))

    def steps(
        self, frames: Sequence[Frame], visual: VisualTokens, state: StreamState, cache: KVCache, piece: int = 0
    ) -> Generator[None, None, VideoRead]:
        """`video` in steps, so that there can be other work between them: at most `piece` tokens each, 0 for all."""
        blocks: list[Block] = []
        number, segment, last_read = state.frames, state.segment, state.last_read
        for stretch in self.stretches(frames, visual.size, state):
            if stretch.ids:
                pinned = stretch.border and number < self._config.sink_frames
                text = self.text(stretch.ids, stretch.start, cache)
                blocks.append(Block(text.tokens, text.position, pinned=pinned, border=stretch.border))
                last_read = None
            read, last_read = yield from self._pairs(stretch, number, visual, last_read, state, cache, piece)
            blocks += read
            number, segment = number + len(stretch.frames), stretch.after
        assert segment is not None
        return VideoRead(segment, tuple(blocks), last_read)

    @property
    def filters(self) -> bool:
        """Whether parts of pictures are left out that did not change."""
        return self._config.still_threshold > 0

    def _pairs(
        self,
        stretch: Stretch,
        number: int,
        visual: VisualTokens,
        last: LastRead | None,
        state: StreamState,
        cache: KVCache,
        piece: int,
    ) -> Generator[None, None, tuple[list[Block], LastRead | None]]:
        geometry = self._adapter.geometry
        frames, segment, positions = stretch.frames, stretch.before, stretch.positions
        firsts = frames[:: geometry.temporal]
        kept = None
        if self.filters:
            patches, grid = visual.patches(frames)
            numbers = [number + i * geometry.temporal for i in range(len(firsts))]
            times = [f.time_ns for f in firsts]
            kept, last = self._still.changed(patches, times, numbers, last, state.oldest_loose)
            if kept.any():
                self._read_moving(patches, grid, kept, positions, cache)
        else:
            last = None  # of no use if the filter is switched on later
            looked = piece and not visual.has(frames)
            tokens = visual.of(frames)
            if looked:
                yield
            for begin, end in _pieces(tokens.shape[0], piece):
                if begin:
                    yield
                self._adapter.read(tokens[begin:end], positions[:, begin:end], cache)
        blocks = []
        for i in range(len(firsts)):
            begin = i * geometry.temporal
            pair = frames[begin : begin + geometry.temporal]
            blocks.append(
                Block(
                    tokens=segment.tokens_per_patch if kept is None else int(kept[i].sum()),
                    position=int(positions[0, i * segment.tokens_per_patch]),
                    anchor=segment.start,
                    frames=len(pair),
                    first_ns=pair[0].stamp_ns,
                    last_ns=pair[-1].stamp_ns,
                    places=None if kept is None else kept[i].nonzero()[:, 0],
                    pinned=number + begin < self._config.sink_frames,
                )
            )
        return blocks, last

    def _read_moving(self, patches: Tensor, grid: Tensor, kept: Tensor, positions: Tensor, cache: KVCache) -> None:
        # The vision tower looks at one pair at a time, so those without any change need not pass through it.
        moving = kept.any(dim=1)
        patches = patches.view(len(moving), -1, patches.shape[-1])[moving.to(patches.device)].flatten(0, 1)
        grid = grid.clone()
        grid[0, 0] = int(moving.sum())
        embeds = self._adapter.embed_video(patches, grid)[kept[moving].flatten().to(self._adapter.device)]
        self._adapter.forward(embeds[None], positions[:, kept.flatten()], cache)


def _pieces(tokens: int, most: int) -> Iterator[tuple[int, int]]:
    """Begin and end of pieces of about the same size."""
    count = -(-tokens // most) if most else 1
    each = -(-tokens // count)
    for begin in range(0, tokens, each):
        yield begin, min(tokens, begin + each)


def _all_of(steps: Generator[None, None, T]) -> T:
    """Run to the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
