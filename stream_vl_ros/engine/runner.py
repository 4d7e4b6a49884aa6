"""The one thread that touches the model: chunks and decode steps interleaved.

Frames and questions go into one queue in the order of their arrival, so a question sees exactly the frames
that came before it. A question is answered on a fork, one token at a time, between chunks; nobody waits for a
whole answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from stream_vl_ros.engine.answer import Answer, Finish
from stream_vl_ros.engine.config import RunnerConfig
from stream_vl_ros.engine.counters import ChunkTimes, QuestionCounters
from stream_vl_ros.engine.generation import Question
from stream_vl_ros.engine.runner_state import Control, Incoming, Request, RunnerStatus, Shared
from stream_vl_ros.engine.stream import ChunkReport, Picture, VideoStream
from stream_vl_ros.errors import EngineClosedError, FrameError, RequestError, StreamVLError
from stream_vl_ros.throttle import ThrottledLog

log = logging.getLogger(__name__)

T = TypeVar("T")


class EngineRunner:
    """Runs one stream on a thread of its own. Every public method may be called from any thread.

    Use it in a `with` block, or call `start` and `close`.
    """

    def __init__(self, stream: VideoStream, config: RunnerConfig | None = None) -> None:
        self.config = config or RunnerConfig()
        self._stream = stream
        self._shared = Shared()
        self._active: list[Request] = []
        self._pending_since = 0.0
        self._throttled = ThrottledLog(log)
        self._facts = self._stream_facts()
        self._thread = threading.Thread(target=self._loop, name="stream_vl_engine", daemon=True)

    def __enter__(self) -> EngineRunner:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- any thread -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the engine thread."""
        self._thread.start()

    def push(self, picture: Picture, stamp_ns: int) -> None:
        """Hand over a frame; returns at once (or, with policy ``"block"``, when there is room).

        A picture that turns out to be unusable is counted and logged, never raised here.

        Args:
            picture: uint8 (height, width, 3) in RGB, copied; or a function that makes it, called on the engine thread.
            stamp_ns: header stamp in nanoseconds.

        Raises:
            EngineClosedError: after `close`.
        """
        shared = self._shared
        if not callable(picture):
            picture = picture.copy()
        with shared.changed:
            self._check_open()
            if self.config.queue_policy == "block":
                shared.changed.wait_for(lambda: shared.frames.queued < self.config.queue_frames or shared.closing)
                self._check_open()
            shared.frames.received += 1
            if shared.frames.queued >= self.config.queue_frames:
                self._drop_oldest()
            shared.queue.append(Incoming(picture, stamp_ns, time.monotonic()))
            shared.frames.queued += 1
            shared.changed.notify_all()

    def reject(self, error: FrameError) -> None:
        """Count a frame that could not even be handed over."""
        with self._shared.changed:
            self._shared.frames.received += 1
            self._count_drop(error.reason, 1, str(error))

    def ask(self, question: Question, *, timeout: float = 60.0, remember: bool = False) -> Future[Answer]:
        """Queue a question behind the frames that came before it.

        Cancelling the returned future stops the answer at the next token.

        Args:
            timeout: seconds from now until the answer is cut off (`Finish.TIMEOUT`, with what was written).
            remember: make the finished turn part of the stream.

        Raises:
            RequestError: if too many questions wait already.
            EngineClosedError: after `close`.
        """
        now = time.monotonic()
        request = Request(question, remember, Future(), now, now + timeout)
        shared = self._shared
        with shared.changed:
            self._check_open()
            if shared.questions.active >= self.config.max_questions:
                raise RequestError(
                    f"busy: {shared.questions.active} questions are waiting or being answered and max_questions is "
                    f"{self.config.max_questions}; ask again later"
                )
            shared.questions.asked += 1
            shared.queue.append(request)
            shared.changed.notify_all()
        return request.future

    def call(self, action: Callable[[VideoStream], T]) -> Future[T]:
        """Run something on the engine thread, in its turn in the queue."""
        future: Future[T] = Future()
        with self._shared.changed:
            self._check_open()
            self._shared.queue.append(Control(lambda: action(self._stream), future))
            self._shared.changed.notify_all()
        return future

    def reset(self) -> Future[None]:
        """Forget all video. Answers in progress go on with what they saw; waiting frames are dropped."""

        def action(stream: VideoStream) -> None:
            lost = stream.drop_pending()
            stream.reset()
            with self._shared.changed:
                self._shared.frames.pending -= lost
                if lost:
                    self._count_drop("reset", lost, "")

        return self.call(action)

    def status(self) -> RunnerStatus:
        """Counters and sizes, all of the same moment."""
        shared = self._shared
        with shared.changed:
            q, c = shared.questions, shared.chunks
            return RunnerStatus(
                shared.frames.copy(),
                QuestionCounters(q.asked, q.answered, q.failed),
                ChunkTimes(c.count, c.last, c.total),
                *self._facts,
                shared.problem,
            )

    def close(self, timeout: float = 10.0) -> None:
        """Stop. Questions that are not answered yet fail with `EngineClosedError`; waiting frames are dropped."""
        with self._shared.changed:
            self._shared.closing = True
            self._shared.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    # --- under the lock -------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._shared.closing:
            raise EngineClosedError("the engine was shut down; start it again first")

    def _drop_oldest(self) -> None:
        for i, item in enumerate(self._shared.queue):
            if isinstance(item, Incoming):
                del self._shared.queue[i]
                break
        self._shared.frames.queued -= 1
        self._count_drop(
            "queue_full",
            1,
            f"the engine is behind: {self.config.queue_frames} frames wait (queue_frames), the oldest is dropped; "
            "lower target_fps or max_pixels, or use a faster device",
        )

    def _count_drop(self, reason: str, count: int, message: str) -> None:
        self._shared.frames.drops[reason] += count
        if message:
            self._shared.problem = message
            self._throttled.warning(reason, message)

    def _stream_facts(self) -> tuple[int, int, tuple[int, int] | None, int, int]:
        s = self._stream
        return s.cache.length, s.cache.memory_bytes, s.frame_size, s.state.first_stamp_ns, s.state.last_stamp_ns

    # --- the engine thread ----------------------------------------------------------------------------------

    def _loop(self) -> None:
        shared = self._shared
        while True:
            with shared.changed:
                if not self._active:
                    shared.changed.wait_for(
                        lambda: shared.closing or shared.queue or self._flush_due(), self._until_flush()
                    )
                if shared.closing:
                    break
            spent = self._take_in()
            self._decode(spent)
        self._shut_down()

    def _take_in(self) -> float:
        """Work through the queue until something took the model's time. Returns the seconds that it took."""
        while True:
            with self._shared.changed:
                if self._shared.closing:
                    return 0.0
                item = None
                if not self._flush_due():
                    item = self._shared.queue.popleft() if self._shared.queue else None
                    if isinstance(item, Incoming):
                        self._shared.frames.queued -= 1
                        self._shared.frames.in_hand += 1
                        self._shared.changed.notify_all()
                    elif item is None:
                        return 0.0
            started = time.perf_counter()
            if item is None:
                self._encode(self._stream.flush)
            elif isinstance(item, Incoming):
                if not self._accept(item) or not self._encode(self._stream.encode_chunk):
                    continue
            elif isinstance(item, Request):
                self._begin(item)
            else:
                _fulfil(item.future, item.action)
                with self._shared.changed:
                    self._facts = self._stream_facts()
            return time.perf_counter() - started

    def _accept(self, item: Incoming) -> bool:
        kept, reason, message = False, "", ""
        try:
            kept = self._stream.offer(item.picture, item.stamp_ns)
        except FrameError as error:
            reason, message = error.reason, str(error)
        except Exception as error:
            reason, message = "decode_error", f"picture could not be read: {type(error).__name__}: {error}"
        with self._shared.changed:
            frames = self._shared.frames
            frames.in_hand -= 1
            if reason:
                self._count_drop(reason, 1, message)
            elif kept:
                if frames.pending == 0:
                    self._pending_since = item.arrived
                frames.pending += 1
            else:
                frames.skipped += 1
        return kept

    def _encode(self, encode: Callable[[], ChunkReport | None]) -> bool:
        """Encode a chunk if there is one. A chunk that fails is dropped and the stream goes on without it."""
        try:
            report = encode()
        except Exception as error:
            lost = self._stream.drop_pending()
            log.exception("a chunk of %d frames could not be encoded", lost)
            with self._shared.changed:
                self._shared.frames.pending -= lost
                self._count_drop(
                    "encode_error", lost, f"{lost} frames could not be encoded: {type(error).__name__}: {error}"
                )
            return True
        if report is None:
            return False
        self._note_ingested(report.frames, report.seconds)
        return True

    def _note_ingested(self, count: int, seconds: float) -> None:
        with self._shared.changed:
            self._shared.frames.pending -= count
            self._shared.frames.ingested += count
            self._shared.chunks.add(seconds)
            self._pending_since = time.monotonic()
            self._facts = self._stream_facts()

    def _flush_due(self) -> bool:
        return self._has_pair() and time.monotonic() >= self._pending_since + self.config.flush_after

    def _until_flush(self) -> float | None:
        if not self._has_pair():
            return None
        return max(0.0, self._pending_since + self.config.flush_after - time.monotonic())

    def _has_pair(self) -> bool:
        return len(self._stream.pending) >= self._stream.model.adapter.geometry.temporal

    def _begin(self, request: Request) -> None:
        if not self._still_wanted(request):
            return
        try:
            request.generation = self._stream.start(request.question, request.asked_at)
            request.generation.prefill()
        except Exception as error:
            self._fail(request, error)
            return
        self._active.append(request)
        self._settle(request)

    def _decode(self, spent: float) -> None:
        """Write tokens, one for each question in turn, for this engine's share of the time."""
        share = self.config.decode_share
        until = time.perf_counter() + spent * share / (1 - share)
        while self._active:
            for request in list(self._active):
                self._step(request)
            with self._shared.changed:
                waiting = bool(self._shared.queue) or self._flush_due() or self._shared.closing
            if waiting and time.perf_counter() >= until:
                return

    def _step(self, request: Request) -> None:
        generation = request.generation
        assert generation is not None
        if generation.done:
            self._settle(request)
            return
        if not self._still_wanted(request):
            return
        try:
            generation.step()
        except Exception as error:
            self._fail(request, error)
            return
        self._settle(request)

    def _still_wanted(self, request: Request) -> bool:
        """False, and everything put away, if the caller gave up or the deadline passed."""
        generation = request.generation
        if request.future.cancelled():
            if generation is not None:
                generation.stop(Finish.CANCELLED)
            self._retire(request, answered=False)
            return False
        if time.monotonic() < request.deadline:
            return True
        if generation is None:
            waited = time.monotonic() - request.asked_at
            self._fail(request, RequestError(f"timed out after {waited:.1f} s, unread; allow more time (timeout)"))
            return False
        generation.stop(Finish.TIMEOUT)
        self._settle(request)
        return False

    def _settle(self, request: Request) -> None:
        generation = request.generation
        assert generation is not None
        if not generation.done:
            return
        answer = generation.answer()
        if request.remember and answer.complete:
            waiting = len(self._stream.pending)
            try:
                started = time.perf_counter()
                self._stream.remember(request.question.text, answer.text)
            except Exception as error:
                self._fail(request, error)
                return
            if waiting:
                self._note_ingested(waiting, time.perf_counter() - started)
            with self._shared.changed:
                self._facts = self._stream_facts()
        self._retire(request, answered=answer.complete)
        _fulfil(request.future, lambda: answer)

    def _fail(self, request: Request, error: Exception) -> None:
        if request.generation is not None:
            request.generation.stop(Finish.CANCELLED)
        self._retire(request, answered=False)
        if not isinstance(error, StreamVLError):
            log.error("question %r failed", request.question.text, exc_info=error)
            error = RequestError(f"the engine could not answer: {type(error).__name__}: {error}")
        if not request.future.cancelled():
            request.future.set_exception(error)

    def _retire(self, request: Request, *, answered: bool) -> None:
        if request in self._active:
            self._active.remove(request)
        with self._shared.changed:
            if answered:
                self._shared.questions.answered += 1
            else:
                self._shared.questions.failed += 1

    def _shut_down(self) -> None:
        with self._shared.changed:
            items = list(self._shared.queue)
            self._shared.queue.clear()
            lost = self._shared.frames.waiting
            self._shared.frames.queued = self._shared.frames.pending = 0
            if lost:
                self._shared.frames.drops["shutdown"] += lost
            self._shared.changed.notify_all()
        closed = EngineClosedError("the engine was shut down before it could answer")
        for item in items:
            if isinstance(item, Request):
                self._fail(item, closed)
            elif isinstance(item, Control) and not item.future.cancelled():
                item.future.set_exception(closed)
        for request in list(self._active):
            self._fail(request, closed)


def _fulfil(future: Future[T], action: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(action())
    except Exception as error:
        future.set_exception(error)
