"""A video stream in a KV cache: append frames, fork, ask."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from stream_vl_ros.engine.answer import Answer, Moment
from stream_vl_ros.engine.batch import DecodeBatch
from stream_vl_ros.engine.cache import KVCache, Snapshot
from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.generation import Generation
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.memory.keeper import MemoryKeeper
from stream_vl_ros.engine.memory.ledger import Block, Evicted, Ledger
from stream_vl_ros.engine.pictures import check_pixels
from stream_vl_ros.engine.positions import VideoSegment
from stream_vl_ros.engine.prompt import PromptPieces, check_choices
from stream_vl_ros.engine.question import DEFAULT_MAX_NEW_TOKENS, Question
from stream_vl_ros.engine.reader import Reader
from stream_vl_ros.engine.sampling import FrameSampler
from stream_vl_ros.engine.stream_state import StreamState
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.errors import CacheError, NoVideoError

Picture = np.ndarray | Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """One chunk that was encoded: frames and tokens in it, and the seconds that it took."""

    frames: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StreamSnapshot:
    """A moment of a stream, to go back to with `restore`, even after a reset. Keeps the memory of that moment alive."""

    cache: Snapshot
    state: StreamState
    pending: tuple[Frame, ...]
    size: tuple[int, int] | None
    sampler: FrameSampler


@dataclass(frozen=True, slots=True)
class _Tip:
    """The waiting frames, encoded on a fork of the stream at `state`."""

    state: StreamState
    pending: tuple[Frame, ...]
    cache: KVCache
    segment: VideoSegment

    def fits(self, state: StreamState, pending: list[Frame]) -> bool:
        same = len(pending) == len(self.pending) and all(a is b for a, b in zip(pending, self.pending, strict=True))
        return same and state is self.state


class VideoStream:
    """One growing video, encoded once, chunk by chunk, into a KV cache.

    The prompt is `system, user, <|vision_start|> chunk chunk chunk ...` and stays open. A fork closes it, asks, and is
    thrown away. Use a stream from one thread; `EngineRunner` does that for programs with several.

    >>> from stream_vl_ros.demo.scene import demo_clip
    >>> from stream_vl_ros.engine import VideoStream, load_model
    >>> frames, stamps = demo_clip()  # uint8 (96, 112, 112, 3), and a time in seconds for each
    >>> stream = VideoStream(load_model("embedded", device="cpu"))
    >>> chunks = stream.append(frames[:40], stamps[:40])
    >>> stream.ask("What is visible now?").text
    'a red circle, a blue square'
    >>> chunks = stream.append(frames[40:], stamps[40:])
    >>> stream.ask("What appeared before the green triangle?").text
    'a blue square'
    >>> stream.ask_choice("Where is the green triangle?", ["top left", "bottom right"]).text
    'top left'
    >>> [a.text for a in stream.ask_many(["What appeared first?", "How many objects are there?"])]
    ['a red circle', '2']
    """

    cache: KVCache
    _state: StreamState
    _pending: list[Frame]
    _size: tuple[int, int] | None  # pixels of an encoded frame, fixed by the first one
    _sampler: FrameSampler
    _last_tip: _Tip | None  # kept while further questions of the same moment may come

    def __init__(self, model: LoadedModel, config: StreamConfig | None = None) -> None:
        self.model = model
        self.resets = 0  # how often video was forgotten as a whole: by a reset, or by going back
        self.config = config or StreamConfig()
        self.pieces = PromptPieces.from_template(model.processor, self.config.system_prompt)
        self._keeper = MemoryKeeper(model.adapter, self.config)
        self._reader = Reader(model, self.pieces, self.config)
        self._after_maximum = self.config.text_base == "trained" or model.adapter.text_after_maximum
        self._open()

    # --- video in -------------------------------------------------------------------------------------------

    def append(self, frames: Iterable[np.ndarray], stamps: Sequence[float]) -> list[ChunkReport]:
        """Add pictures of a video and encode the chunks that they fill.

        Args:
            frames: uint8 arrays (height, width, 3) in RGB order, or one array (n, height, width, 3).
            stamps: when each was taken, in seconds since any fixed moment; must increase.

        Returns:
            One report per encoded chunk. Frames that `target_fps` leaves out are skipped.

        Raises:
            FrameError: for a picture or a stamp that cannot be used. The frames before it are kept.
        """
        pictures = list(frames)
        if len(pictures) != len(stamps):
            raise ValueError(f"{len(pictures)} frames but {len(stamps)} stamps: give one stamp, in seconds, per frame")
        reports = []
        for pixels, stamp in zip(pictures, stamps, strict=True):
            self.offer(np.array(pixels), round(stamp * NANOSECONDS))  # a copy: callers reuse their buffers
            while (report := self.encode_chunk()) is not None:
                reports.append(report)
        return reports

    def offer(self, picture: Picture, stamp_ns: int) -> bool:
        """Add one picture to the waiting ones, encoding nothing. False if `target_fps` leaves it out.

        Args:
            picture: uint8 (height, width, 3), RGB, kept as it is; or a function that makes it, called only if the
                frame is kept.
            stamp_ns: when it was taken, nanoseconds.

        Raises:
            FrameError: the stream is unchanged then, and the frame's place stays free for the next one.
        """
        before = replace(self._sampler)
        time_ns = self._sampler.place(stamp_ns)
        if time_ns is None:
            return False
        try:
            pixels = picture() if callable(picture) else picture
            check_pixels(pixels)
            size = self._size or self._first_size(pixels)
            self._keeper.check_space(self.cache.length, len(self._pending), size)
        except BaseException:
            self._sampler = before
            raise
        self._size = size
        self._pending.append(Frame(pixels, stamp_ns, time_ns))
        self._last_tip = None
        return True

    def _first_size(self, pixels: np.ndarray) -> tuple[int, int]:
        height, width, _ = pixels.shape
        size = self.model.adapter.geometry.frame_size(height, width, self.config.max_pixels)
        self._keeper.begin(size, self.cache.length)
        if self._keeper.budget is not None:
            self.cache.reserve(self._keeper.budget)
        return size

    def drop_pending(self) -> int:
        """Forget the frames that wait for their chunk. Returns how many."""
        count = len(self._pending)
        self._pending.clear()
        self._last_tip = None
        return count

    def encode_chunk(self) -> ChunkReport | None:
        """Encode one chunk if enough frames wait for it."""
        whole = self.config.chunk_frames - self.config.chunk_frames % self._temporal
        if len(self._pending) < max(self.config.chunk_frames, self._temporal):
            return None
        return self._encode(max(whole, self._temporal))

    def flush(self) -> ChunkReport | None:
        """Encode what waits without a full chunk: whole pairs only, an odd frame goes on waiting."""
        whole = len(self._pending) - len(self._pending) % self._temporal
        return self._encode(whole) if whole else None

    @property
    def pending(self) -> tuple[Frame, ...]:
        """Frames that wait for their chunk. Forks see them, the cache does not hold them yet."""
        return tuple(self._pending)

    # --- questions ------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def fork(self, *, waiting: bool = True) -> Fork:
        """A private continuation that has seen every frame up to now. The stream does not change.

        Frames that still wait for their chunk are encoded in the fork alone, an odd last one doubled as the model's
        own processor does, so not even the stream's chunk borders depend on questions. Without `waiting` it has not
        seen those, and costs nothing.

        Raises `NoVideoError` before the first frame.
        """
        state = self._state
        pending = self._pending if waiting else []
        seen = state.held_frames + len(pending)
        if seen == 0:
            raise NoVideoError("no video yet: not one frame has arrived; append frames, or check that the camera sends")
        moment = Moment(
            frames=seen,
            first_stamp_ns=state.first_stamp_ns if state.frames else pending[0].stamp_ns,
            last_stamp_ns=pending[-1].stamp_ns if pending else state.last_stamp_ns,
            cache_tokens=self.cache.length,
            cache_bytes=self.cache.memory_bytes,
        )
        cache, segment = self._tip() if pending else (self.cache.fork(), state.segment)
        if segment is None:
            # No new video since a remembered answer: the question follows it in the dialogue.
            start, ask = state.position, self.pieces.follow_up
        else:
            start, ask = segment.text_start(self._after_maximum), self.pieces.ask
        return Fork(self.model.adapter, moment, cache, start, ask, self.pieces.follow_up)

    def start(self, question: Question, asked_at: float | None = None) -> Generation:
        """Fork and get ready to answer; the caller drives the returned generation."""
        asked_at = time.monotonic() if asked_at is None else asked_at
        return Generation(self.model, self.fork(), question, asked_at)

    def ask(
        self,
        question: str | Question,
        choices: Sequence[str] = (),
        max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
        **options: Any,
    ) -> Answer:
        """Answer a question about the video so far, on a fork. The stream does not change.

        Args:
            question: plain text; or a `Question`, and nothing else.
            choices: options; if given, the best one is returned with the scores of all.
            max_new_tokens: longest free answer.
            options: other fields of `Question`, such as ``temperature``, ``seed``, ``stop``, ``regex`` or ``history``.

        Raises:
            PromptError: for an empty question, unusable choices and so on.
            NoVideoError: before the first frame.
        """
        if isinstance(question, str):
            question = Question(question, tuple(choices), max_new_tokens, **options)
        return self.start(question).run()

    def ask_choice(self, question: str, choices: Sequence[str], **options: Any) -> Answer:
        """`ask` with options. Raises `PromptError` for fewer than two, an empty one, or two equal ones."""
        return self.start(Question(question, check_choices(choices), **options)).run()

    def ask_many(self, questions: Iterable[str | Question]) -> list[Answer]:
        """Answer several questions about this moment side by side; each answer is the one that `ask` gives.

        The video is read once per step for all of them, so k answers take far less than k times as long as one.
        """
        generations = [self.start(Question(q) if isinstance(q, str) else q) for q in questions]
        batch = DecodeBatch(self.model)
        for generation in generations:
            generation.prefill()
            if not generation.done:
                batch.add(generation)
        while len(batch):
            for failure in batch.step():
                raise failure.error
        return [g.answer() for g in generations]

    @torch.inference_mode()
    def remember(self, question: str, answer: str) -> None:
        """Make a question and its answer part of the stream, at its present end.

        Waiting frames are encoded first, an odd one doubled: the segment that they belong to ends here. Video that
        comes later begins a new one. If anything fails the stream is as it was before.

        Raises:
            NoVideoError: before the first frame.
        """
        if not self._state.frames and not self._pending:
            raise NoVideoError("nothing to remember a turn after: not one frame has arrived")
        spare = self._spare_text(question, answer)
        if self._pending:
            self._make_room(len(self._pending), spare)
        else:
            self._make_room(0, spare)
        state, pending, length = self._state, list(self._pending), self.cache.length
        try:
            if self._pending:
                self._read_chunk(len(self._pending))
            segment = self._state.segment
            piece = self.pieces.follow_up_turn if segment is None else self.pieces.turn
            start = self._state.position if segment is None else segment.text_start(self._after_maximum)
            ids = piece.tokens(self.model.tokenizer, question=question.strip(), answer=answer.strip())
            block = self._reader.text(ids, start, self.cache)
        except BaseException:
            self._state, self._pending = state, pending
            self.cache.truncate(length)
            raise
        ledger = self._grown(block)
        self._state = replace(
            self._state, segment=None, position=start + len(ids), answered=True, ledger=ledger, last_read=None
        )

    # --- the stream as a whole ------------------------------------------------------------------------------

    @property
    def frames(self) -> int:
        """Frames that were encoded, those that were forgotten since included."""
        return self._state.frames

    @property
    def evicted(self) -> Evicted:
        """What was forgotten since the stream began."""
        return self._state.ledger.evicted

    @property
    def state(self) -> StreamState:
        return self._state

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width in pixels that frames are resized to; None before the first one."""
        return self._size

    def snapshot(self) -> StreamSnapshot:
        """This moment, for `restore`. Copies nothing, and keeps what it saw in memory as long as it lives."""
        return StreamSnapshot(
            self.cache.snapshot(), self._state, tuple(self._pending), self._size, replace(self._sampler)
        )

    def restore(self, snapshot: StreamSnapshot) -> None:
        """Go back to a moment; frames and turns since then are forgotten. Living forks are not affected."""
        self.cache.restore(snapshot.cache)
        self._state, self._pending, self._size = snapshot.state, list(snapshot.pending), snapshot.size
        self._sampler = replace(snapshot.sampler)
        self._last_tip = None
        self.resets += 1

    def reset(self) -> None:
        """Forget all video, the waiting frames too. Living forks and snapshots are not affected."""
        self._open()
        self.resets += 1

    def release(self) -> None:
        """Memory ran out: free what can be made again, and with an eviction rule forget half of the video."""
        self._last_tip = None
        if self._keeper.active:
            self._forgetting(lambda: self._keeper.shed(self.cache, self._state.ledger))

    def signature(self) -> str:
        """SHA-256 in hex over cache, positions and counters; waiting frames are not part of it."""
        return hashlib.sha256(f"{self.cache.signature()} {self._state}".encode()).hexdigest()

    # --- inside ---------------------------------------------------------------------------------------------

    @property
    def _temporal(self) -> int:
        return self.model.adapter.geometry.temporal

    @torch.inference_mode()
    def _open(self) -> None:
        ids = self.pieces.start.tokens(self.model.tokenizer)
        # A budget is allocated as a whole once the pictures' size is known.
        capacity = len(ids) if self.config.has_budget else self.config.initial_capacity
        cache = KVCache(self.model.adapter.cache_shape, initial_capacity=capacity)
        opening = replace(self._reader.text(ids, 0, cache), pinned=True)
        # Nothing is replaced before everything that can fail is done.
        self.cache = cache
        ledger = Ledger((opening,) if self._keeper.active else ())
        self._state = StreamState(None, len(ids), ledger=ledger)
        self._pending, self._size, self._last_tip = [], None, None
        self._sampler = FrameSampler(self.config.target_fps, self._longest_gap())

    def _longest_gap(self) -> int:
        """Nanoseconds of time that all positions of the model cover: a longer gap leaves no room for any video."""
        rate = self.model.adapter.tokens_per_second or 1
        return int(self.model.adapter.max_positions * NANOSECONDS / rate)

    def _encode(self, count: int) -> ChunkReport:
        started = time.perf_counter()
        self._make_room(count)
        length = self.cache.length
        self._read_chunk(count)
        return ChunkReport(count, self.cache.length - length, time.perf_counter() - started)

    @torch.inference_mode()
    def _read_chunk(self, count: int) -> None:
        chunk, length = self._pending[:count], self.cache.length
        self._last_tip = None
        try:
            assert self._size is not None
            read = self._reader.video(chunk, self._size, self._state, self.cache)
        except BaseException:
            self.cache.truncate(length)
            raise
        del self._pending[:count]
        self._state = replace(
            self._state,
            segment=read.segment,
            answered=False,
            frames=self._state.frames + count,
            first_stamp_ns=self._state.first_stamp_ns if self._state.frames else chunk[0].stamp_ns,
            last_stamp_ns=chunk[-1].stamp_ns,
            ledger=self._grown(*read.blocks),
            last_read=read.last_read,
        )

    def _grown(self, *blocks: Block) -> Ledger:
        return self._state.ledger.grown(*blocks) if self._keeper.active else self._state.ledger

    # --- bounded memory -------------------------------------------------------------------------------------

    def _make_room(self, frames: int, spare: int = 0) -> None:
        """Let `frames` of the waiting ones, and `spare` tokens more, fit into the budget and the range of positions."""
        if not self._keeper.active or self._size is None:
            return
        self._last_tip = None
        pairs = -(-frames // self._temporal)
        rows, columns = self.model.adapter.geometry.grid(*self._size)
        text = len(self.pieces.reopen.tokens(self.model.tokenizer)) if self._state.answered else 0
        new = pairs * rows * columns + text + spare
        self._forgetting(lambda: self._keeper.make_room(self.cache, self._state.ledger, new))
        self._stay_in_range(frames, text + spare, max(rows, columns))

    def _spare_text(self, question: str, answer: str) -> int:
        piece = self.pieces.follow_up_turn if self._state.segment is None else self.pieces.turn
        return len(piece.tokens(self.model.tokenizer, question=question.strip(), answer=answer.strip()))

    def _forgetting(self, action: Callable[[], Ledger]) -> None:
        try:
            ledger = action()
        except CacheError:
            # Half of it is gone: better an empty memory than a wrong one.
            self.reset()
            raise
        first = ledger.first_ns or self._state.first_stamp_ns
        self._state = replace(self._state, ledger=ledger, first_stamp_ns=first)

    def _stay_in_range(self, frames: int, text: int, side: int) -> None:
        state, segment = self._state, self._state.segment
        if segment is None or not frames:
            newest = (segment.last_time if segment else state.position) + text
        else:
            newest = segment.time_of(self._pending[frames - 1].time_ns) + text
        before = state.ledger
        moved = (before, 0, 0)

        def move() -> Ledger:
            nonlocal moved
            moved = self._keeper.move_back(self.cache, before, newest, side)
            return moved[0]

        self._forgetting(move)
        _, back, anchor = moved
        if not back:
            return
        if segment is not None:
            segment = segment.moved(back, in_place=segment.start == anchor)
        self._state = replace(self._state, segment=segment, position=state.position - back)

    def _tip(self) -> tuple[KVCache, VideoSegment]:
        """A fork that has read the waiting frames, and the segment that it ends in.

        Questions of one moment share it, so that the frames are encoded once for all of them.
        """
        tip = self._last_tip
        if tip is None or not tip.fits(self._state, self._pending):
            assert self._size is not None
            cache = self.cache.fork()
            segment = self._reader.video(self._pending, self._size, self._state, cache).segment
            tip = self._last_tip = _Tip(self._state, tuple(self._pending), cache, segment)
        return tip.cache.fork(), tip.segment
