"""From the queue into the stream: frames, the moments of questions, and calls, in the order of their arrival."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from stream_vl_ros.engine.accounts import Accounts
from stream_vl_ros.engine.answering import Answering, fulfil
from stream_vl_ros.engine.out_of_memory import with_room
from stream_vl_ros.engine.runner_state import Control, Incoming, Request, Shared
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.stream_records import ChunkReport
from stream_vl_ros.errors import FrameError, MemoryFullError

log = logging.getLogger(__name__)

# Seconds of decoding pictures after which answers get their turn, if no chunk came of them yet.
SLICE = 0.01


class Intake:
    """Works through the queue on the engine thread.

    Attributes:
        flush_after: seconds after which waiting frames are encoded without a full chunk.
    """

    def __init__(
        self,
        stream: VideoStream,
        shared: Shared,
        accounts: Accounts,
        answering: Answering,
        *,
        flush_after: float,
        make_room: Callable[[], None],
        numbers: Callable[[], str],
    ) -> None:
        self.flush_after = flush_after
        self._stream, self._shared, self._accounts, self._answering = stream, shared, accounts, answering
        self._make_room, self._numbers = make_room, numbers

    @property
    def due(self) -> bool:
        """Whether there is something to do."""
        return bool(self._shared.queue) or self._flush_due()

    def until_flush(self) -> float | None:
        """Seconds until waiting frames are due without a full chunk; None if there are too few."""
        if not self._has_pair():
            return None
        return max(0.0, self._accounts.arrivals[0] + self.flush_after - time.monotonic())

    def take_in(self) -> float:
        """Work through the queue until a chunk was encoded. Of a question only its moment is noted.

        Returns the seconds that it took.
        """
        started = time.perf_counter()
        while not self._shared.closing:
            if self._flush_due():
                self._encode(self._stream.flush)
                break
            item = self._next()
            if item is None:
                break
            if isinstance(item, Request):
                self._answering.begin(item)
            elif isinstance(item, Control):
                self._perform(item)
                # Chunks may be smaller now than what waits.
                while self._encode(self._stream.encode_chunk):
                    pass
            elif self._accept(item) and self._encode(self._stream.encode_chunk):
                break
            if self._answering and time.perf_counter() - started > SLICE:
                break
        return time.perf_counter() - started

    def _next(self) -> Incoming | Request | Control | None:
        shared = self._shared
        with shared.changed:
            if not shared.queue:
                return None
            item = shared.queue.popleft()
            if isinstance(item, Incoming):
                shared.frames.queued -= 1
                shared.frames.in_hand += 1
                shared.changed.notify_all()
            return item

    def _perform(self, item: Control) -> None:
        def action() -> object:
            try:
                return item.action()
            finally:
                # Before the caller hears of it, so that a status asked for then is up to date.
                self._accounts.settle(item.reason)

        fulfil(item.future, action)

    def _accept(self, item: Incoming) -> bool:
        try:
            offered = self._stream.offer(item.picture, item.stamp_ns)
        except FrameError as error:
            self._accounts.refused(error.reason, str(error))
            return False
        except Exception as error:
            self._accounts.refused("decode_error", f"picture could not be read: {type(error).__name__}: {error}")
            return False
        self._accounts.offered(item, offered)
        return offered.kept

    def _encode(self, encode: Callable[[], ChunkReport | None]) -> bool:
        """Encode a chunk if there is one. A chunk that fails is dropped and the stream goes on without it."""
        try:
            report = with_room(encode, self._make_room, self._numbers)
        except Exception as error:
            lost = self._stream.drop_pending()
            log.exception("a chunk of %d frames could not be encoded", lost)
            problem = f"{lost} frames could not be encoded: {type(error).__name__}: {error}"
            full = isinstance(error, MemoryFullError)
            self._accounts.settle("out_of_memory" if full else "encode_error", problem)
            return True
        if report is None:
            return False
        self._accounts.chunk(report)
        self._accounts.settle("encode_error")
        return True

    def _flush_due(self) -> bool:
        return self._has_pair() and time.monotonic() >= self._accounts.arrivals[0] + self.flush_after

    def _has_pair(self) -> bool:
        return len(self._accounts.arrivals) >= self._stream.model.adapter.geometry.temporal
