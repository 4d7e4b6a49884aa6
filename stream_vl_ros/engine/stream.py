"""A video stream in a KV cache: append frames, fork, ask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from stream_vl_ros.engine.answer import Moment
from stream_vl_ros.engine.askable import Askable
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.config import StreamConfig, require
from stream_vl_ros.engine.deferred_fork import DeferredFork
from stream_vl_ros.engine.feasible import Feasible, budget_for, feasible
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.frames import Frame
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.memory.keeper import MemoryKeeper
from stream_vl_ros.engine.memory.ledger import Evicted, Ledger
from stream_vl_ros.engine.memory.sink import pinned_to
from stream_vl_ros.engine.pictures import check_pixels
from stream_vl_ros.engine.prompt import PromptPieces
from stream_vl_ros.engine.reader import Reader, Size
from stream_vl_ros.engine.reconfigured import ANEW, LATER, Change, Reconfigured, changes
from stream_vl_ros.engine.sampling import FrameSampler
from stream_vl_ros.engine.stopwatch import stopwatch
from stream_vl_ros.engine.stream_records import ChunkReport, Offered, StreamSnapshot
from stream_vl_ros.engine.stream_state import StreamState
from stream_vl_ros.engine.time_jump import JumpCounters
from stream_vl_ros.engine.timing import adjusted, new_sampler, timed
from stream_vl_ros.engine.units import NANOSECONDS
from stream_vl_ros.engine.visual import VisualTokens
from stream_vl_ros.engine.waiting import WaitingFrames
from stream_vl_ros.errors import CacheError, NoVideoError

Picture = np.ndarray | Callable[[], np.ndarray]


class VideoStream(Askable):
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

    config: StreamConfig
    pieces: PromptPieces
    cache: KVCache
    _keeper: MemoryKeeper
    _reader: Reader
    _state: StreamState
    _size: Size | None  # pixels of an encoded frame, fixed by the first one
    _sampler: FrameSampler

    def __init__(self, model: LoadedModel, config: StreamConfig | None = None) -> None:
        self.model = model
        self.resets = 0  # how often video was forgotten as a whole: by a reset, or by going back
        self.jumps = JumpCounters()  # of the stamps, since the stream was made
        self._waiting = WaitingFrames(model.adapter)
        self._use(feasible(model, config or StreamConfig()))
        self._adopt(*self._opened())

    # --- video in -------------------------------------------------------------------------------------------

    def append(self, frames: Iterable[np.ndarray], stamps: Sequence[float]) -> list[ChunkReport]:
        """Add pictures of a video and encode the chunks that they fill.

        Args:
            frames: uint8 arrays (height, width, 3) in RGB order, or one array (n, height, width, 3).
            stamps: when each was taken, in seconds since any fixed moment. They increase; what happens where they jump
                is the settings' choice (`StreamConfig.on_time_jump`), and is counted in `jumps`.

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

    def offer(self, picture: Picture, stamp_ns: int) -> Offered:
        """Add one picture to the waiting ones, encoding nothing. Not kept if `target_fps` leaves it out.

        A stamp that jumps is acted upon as `on_time_jump` says, once its picture is known to be usable. With ``"mark"``
        the frames of the time before are a chunk of their own for `encode_chunk`; with ``"reset"`` they are forgotten,
        and the system turn is read again.

        Args:
            picture: uint8 (height, width, 3), RGB, kept as it is; or a function that makes it, called only if the
                frame is kept.
            stamp_ns: when it was taken, nanoseconds.

        Raises:
            FrameError: the stream is unchanged then, and the frame's place stays free for the next one, which jumps if
                this one did.
        """
        timing = timed(
            self._sampler,
            stamp_ns,
            self.config.on_time_jump,
            fresh=new_sampler(self.config, self.model.adapter),
            in_range=self._in_range,
        )
        if timing.time_ns is None:
            self._sampler = timing.sampler
            return Offered(False)
        pixels = picture() if callable(picture) else picture
        check_pixels(pixels)
        # After going back to a memory it is not the clock that jumped.
        jump = None if self._sampler.restored else timing.jump
        if timing.reset:
            self._begin_anew(pixels)
        frame = Frame(pixels, stamp_ns, timing.time_ns, timing.sampler.span)
        size = self._size or self._first_size(pixels)
        tokens = sum(s.tokens for s in self._reader.stretches([*self._waiting.frames, frame], size, self._state))
        self._keeper.check_space(self.cache.length + tokens)
        self._size, self._sampler = size, timing.sampler
        self._waiting.frames.append(frame)
        if jump is not None:
            self.jumps = self.jumps.more(jump)
        return Offered(True, jump)

    def _in_range(self, time_ns: int) -> bool:
        """Whether the model has positions for a frame at this time of the present span."""
        segment = self._state.segment
        if self._waiting:
            assert self._size is not None
            *_, last = self._reader.stretches(self._waiting.frames, self._size, self._state)
            segment = last.after
        return segment is None or segment.time_of(time_ns) < self._keeper.position_limit

    def _first_size(self, pixels: np.ndarray) -> tuple[int, int]:
        size, self._keeper.budget = self._measured(pixels, self.cache.length)
        if self._keeper.budget is not None:
            self.cache.resize(self._keeper.budget)
        return size

    def _measured(self, pixels: np.ndarray, opening: int) -> tuple[tuple[int, int], int | None]:
        """Size that such pictures are encoded at, and the budget in tokens behind `opening` ones."""
        height, width, _ = pixels.shape
        size = self.model.adapter.geometry.frame_size(height, width, self.config.max_pixels)
        return size, self._keeper.budget_for(size, opening)

    def _begin_anew(self, pixels: np.ndarray) -> None:
        """Forget all video, unless such pictures cannot be used."""
        cache, state = self._opened()
        self._measured(pixels, cache.length)
        self._adopt(cache, state)
        self.resets += 1

    def drop_pending(self) -> int:
        """Forget the frames that wait for their chunk. Returns how many."""
        count = len(self._waiting)
        self._waiting.frames.clear()
        self._waiting.forget()
        return count

    def encode_chunk(self) -> ChunkReport | None:
        """Encode one chunk if enough frames wait for it, or if nothing can be added to those that wait.

        If not, what can be done for the next one is done now: its pairs of large pictures go through the vision tower.
        """
        if count := self._waiting.due():
            return self._encode(count)
        if self._waiting and not self._reader.filters:
            self._look_ahead()
        return None

    def flush(self) -> ChunkReport | None:
        """Encode what waits without a full chunk: whole pairs only, an odd frame goes on waiting.

        If a jump in time lies between the waiting frames, those before it are encoded, all of them.
        """
        count = self._waiting.whole()
        return self._encode(count) if count else None

    @property
    def pending(self) -> tuple[Frame, ...]:
        """Frames that wait for their chunk. Forks see them, the cache does not hold them yet."""
        return tuple(self._waiting.frames)

    # --- questions ------------------------------------------------------------------------------------------

    def fork(self, *, waiting: bool = True) -> Fork:
        """A private continuation that has seen every frame up to now. The stream does not change.

        Frames that still wait for their chunk are encoded in the fork alone, an odd last one doubled as the model's
        own processor does, so not even the stream's chunk borders depend on questions. Without `waiting` it has not
        seen those, and costs nothing.

        Raises `NoVideoError` before the first frame.
        """
        return self.defer(waiting=waiting).fork()

    @torch.inference_mode()
    def defer(self, *, waiting: bool = True) -> DeferredFork:
        """This moment, to be forked later, or piece by piece, whatever happens to the stream until then. See `fork`."""
        state, pending = self._state, self.pending if waiting else ()
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
        tip = self._waiting.tip(self._reader, self._looks(), state, self.cache) if pending else None
        return DeferredFork(
            adapter=self.model.adapter,
            reader=self._reader,
            pieces=self.pieces,
            moment=moment,
            cache=self.cache.fork(),
            segment=state.segment,
            position=state.position,
            waiting=pending,
            tip=tip,
        )

    @torch.inference_mode()
    def remember(self, question: str, answer: str) -> None:
        """Make a question and its answer part of the stream, at its present end.

        Waiting frames are encoded first, an odd one doubled: the segment that they belong to ends here. Video that
        comes later begins a new one. If anything fails the stream is as it was before.

        Raises:
            NoVideoError: before the first frame.
        """
        if not self._state.frames and not self._waiting:
            raise NoVideoError("nothing to remember a turn after: not one frame has arrived")
        self._make_room(len(self._waiting), self._spare_text(question, answer))
        state, pending, length = self._state, self.pending, self.cache.length
        try:
            if self._waiting:
                self._read_chunk(len(self._waiting))
            segment = self._state.segment
            piece = self.pieces.follow_up_turn if segment is None else self.pieces.turn
            start = self._reader.text_start(self._state)
            ids = piece.tokens(self.model.tokenizer, question=question.strip(), answer=answer.strip())
            block = self._reader.text(ids, start, self.cache)
        except BaseException:
            self._state = state
            self._waiting.restart(pending)
            self.cache.truncate(length)
            raise
        ledger = self._state.ledger.grown(block)
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
            self.cache.snapshot(),
            self._state,
            self.pending,
            self._size,
            replace(self._sampler),
            (self.config.system_prompt, self.config.text_base),
        )

    def restore(self, snapshot: StreamSnapshot) -> None:
        """Go back to a moment; frames and turns since then are forgotten. Living forks are not affected.

        The next frame's stamp need not go on from that moment. If it jumps, that is not counted, and what was gone
        back to is not forgotten for it: ``on_time_jump="reset"`` does what ``"mark"`` does.

        Raises `ConfigError` for a moment that present settings have no room for, or whose system prompt or text base
        was another one.
        """
        for name, kept in zip(("system_prompt", "text_base"), snapshot.prefix, strict=True):
            now = getattr(self.config, name)
            require(kept == now, name, now, f"this memory was kept with {kept!r}; set that again to go back to it")
        what = "this memory cannot be gone back to"
        budget = budget_for(self.model, self._keeper, self.pieces, snapshot.size, what)
        self.cache.restore(snapshot.cache)
        self.cache.bound(budget)
        self._size = snapshot.size
        self._waiting.restart(snapshot.pending)
        self._state = replace(snapshot.state, ledger=pinned_to(snapshot.state.ledger, self.config.sink_frames))
        self._keeper.budget = budget
        self._sampler = replace(adjusted(snapshot.sampler, self.config, self.model.adapter), restored=True)
        self.resets += 1

    def reset(self) -> None:
        """Forget all video, the waiting frames too. Living forks and snapshots are not affected."""
        self._adopt(*self._opened())
        self.resets += 1

    @torch.inference_mode()
    def reconfigure(self, config: StreamConfig) -> Reconfigured:
        """Go on with other settings. Living forks and snapshots are not affected.

        - `target_fps`: a cadence of its own begins at the newest kept frame, on the same time axis.
        - `chunk_frames`, `still_threshold`, `still_refresh`, `on_time_jump`, `max_gap`, `jump_back`, `recent_share`,
          `novelty_share`, `max_position`: from the next frame, chunk or round of forgetting on.
        - `eviction` and budgets: at once; a lower budget with a rule makes room now, and gives memory back.
        - `sink_frames`: at once, for as many of the first frames as are still there in full.
        - `max_pixels`, `initial_capacity`: once a memory begins, at the first frame of all or after a reset.
        - `system_prompt`, `text_base`: the memory begins anew, and waiting frames are lost.

        Raises:
            ConfigError: for a budget that cannot hold two chunks of the present picture size.
            PromptError: for a system prompt that cannot be used.

        Nothing changes then, nor if memory runs out; but what was forgotten for a lower budget stays forgotten.
        """
        changed = changes(self.config, config)
        names = {c.name for c in changed}
        if not changed:
            return Reconfigured()
        plan = self._feasible(config, changed)
        before = Feasible(self.config, self.pieces, self._keeper, self._reader, self._keeper.budget)
        anew, length = bool(names & ANEW), self.cache.length
        try:
            self._use(plan)
            if anew:
                self._adopt(*self._opened())
                self.resets += 1
            else:
                self._refit(plan.budget)
        except BaseException:
            self._use(before)
            self._sampler = adjusted(self._sampler, self.config, self.model.adapter)
            raise
        later = () if self._size is None else tuple(sorted(names & LATER))
        return Reconfigured(changed, later, anew, 0 if anew else length - self.cache.length)

    def check(self, config: StreamConfig) -> None:
        """Raise what `reconfigure` would raise for these settings now. From any thread; nothing changes."""
        self._feasible(config, changes(self.config, config))

    def release(self) -> None:
        """Memory ran out: free what can be made again, and with an eviction rule forget half of the video."""
        self._waiting.forget()
        if self._keeper.active:
            self._forgetting(lambda s: s.holding(self._keeper.shed(self.cache, s.ledger)))

    def signature(self) -> str:
        """SHA-256 in hex over cache, positions and counters; waiting frames are not part of it."""
        return hashlib.sha256(f"{self.cache.signature()} {self._state}".encode()).hexdigest()

    # --- inside ---------------------------------------------------------------------------------------------

    def _use(self, plan: Feasible) -> None:
        self.config, self.pieces, self._keeper, self._reader = plan.config, plan.pieces, plan.keeper, plan.reader
        self._waiting.use(plan.config.chunk_frames)

    def _feasible(self, config: StreamConfig, changed: Sequence[Change]) -> Feasible:
        names = {c.name for c in changed}
        size = None if names & ANEW and "max_pixels" in names else self._size
        return feasible(self.model, config, size, ", ".join(f"{c.name}={c.new!r}" for c in changed))

    def _refit(self, budget: int | None) -> None:
        """Bring what is there in line with settings that have changed, and with the budget that follows from them."""
        state, sampler = self._state, self._sampler
        pinned = replace(state, ledger=pinned_to(state.ledger, self.config.sink_frames))
        self._keeper.budget, self._state = budget, pinned
        self._sampler = adjusted(sampler, self.config, self.model.adapter)
        try:
            self._make_room(0)
            self.cache.resize(budget)
        except BaseException as error:
            if not isinstance(error, CacheError):  # else the memory was lost, and all of it begins anew
                self._sampler = sampler
            if self._state is pinned:  # nothing was forgotten yet
                self._state = state
            raise

    @torch.inference_mode()
    def _opened(self) -> tuple[KVCache, StreamState]:
        """A cache that holds the beginning of the prompt, and the state of a stream without video."""
        ids = self.pieces.start.tokens(self.model.tokenizer)
        # A budget is allocated as a whole once the pictures' size is known.
        capacity = len(ids) if self.config.has_budget else self.config.initial_capacity
        cache = KVCache(self.model.adapter.cache_shape, initial_capacity=capacity)
        opening = replace(self._reader.text(ids, 0, cache), pinned=True)
        return cache, StreamState(None, len(ids), ledger=Ledger((opening,)))

    def _adopt(self, cache: KVCache, state: StreamState) -> None:
        # Everything that can fail is done by now.
        self.cache, self._state = cache, state
        self._size = None
        self._waiting.restart()
        self._waiting.use(self.config.chunk_frames)
        self._sampler = new_sampler(self.config, self.model.adapter)

    def _encode(self, count: int) -> ChunkReport:
        time = stopwatch(self.model.adapter.device)
        self._make_room(count)
        length = self.cache.length
        self._read_chunk(count)
        time.stop()
        return ChunkReport(count, self.cache.length - length, time)

    @torch.inference_mode()
    def _read_chunk(self, count: int) -> None:
        chunk, length = self._waiting.frames[:count], self.cache.length
        self._waiting.forget_tip()
        try:
            state = self._reader.video(chunk, self._looks(), self._state, self.cache).onto(self._state, chunk)
        except BaseException:
            self.cache.truncate(length)
            raise
        del self._waiting.frames[:count]
        self._state = state

    def _looks(self) -> VisualTokens:
        assert self._size is not None
        return self._waiting.visual(self._size, self.cache)

    @torch.inference_mode()
    def _look_ahead(self) -> None:
        self._waiting.look_ahead(self._looks())

    # --- bounded memory -------------------------------------------------------------------------------------

    def _make_room(self, frames: int, spare: int = 0) -> None:
        """Let `frames` of the waiting ones, and `spare` tokens more, fit into the budget and the range of positions."""
        if not self._keeper.active or self._size is None:
            return
        self._waiting.forget_tip()
        stretches = list(self._reader.stretches(self._waiting.frames[:frames], self._size, self._state))
        new = sum(s.tokens for s in stretches) + spare
        self._forgetting(lambda s: s.holding(self._keeper.make_room(self.cache, s.ledger, new)))
        segment = stretches[-1].after if stretches else self._state.segment
        newest = (self._state.position if segment is None else segment.last_time) + spare
        side = max(self.model.adapter.geometry.grid(*self._size))
        self._forgetting(lambda s: s.moved(*self._keeper.move_back(self.cache, s.ledger, newest, side)))

    def _spare_text(self, question: str, answer: str) -> int:
        follows = self._state.segment is None and not self._waiting
        piece = self.pieces.follow_up_turn if follows else self.pieces.turn
        return len(piece.tokens(self.model.tokenizer, question=question.strip(), answer=answer.strip()))

    def _forgetting(self, action: Callable[[StreamState], StreamState]) -> None:
        try:
            self._state = action(self._state)
        except CacheError:
            # Half of it is gone: better an empty memory than a wrong one.
            self.reset()
            raise
