"""The books of an engine thread: where every frame and question went, and how the stream stands."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import replace

from stream_vl_ros.engine.answer import Finish
from stream_vl_ros.engine.memory.ledger import Evicted
from stream_vl_ros.engine.place_times import PlaceTimes
from stream_vl_ros.engine.runner_state import Incoming, Request, RunnerStatus, Shared
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.stream_records import ChunkReport, Offered
from stream_vl_ros.errors import BusyError
from stream_vl_ros.throttle import ThrottledLog

log = logging.getLogger(__name__)


class Accounts:
    """Keeps `Shared`'s counters. Every frame and every question that came is in exactly one place at any moment.

    Methods take the lock themselves, but for `drop`, `drop_oldest`, `asked`, `turned_away` and `check_room`, which are
    called under it.

    Attributes:
        arrivals: when the frames that wait for their chunk arrived, by `time.monotonic`; the engine's thread alone.
    """

    def __init__(self, shared: Shared, stream: VideoStream) -> None:
        self._shared, self._stream = shared, stream
        waiting = len(stream.pending)
        shared.frames.received = shared.frames.pending = waiting
        self.arrivals = deque([time.monotonic()] * waiting)
        self._booked = stream.frames  # frames of the stream that are in the accounts
        self._resets = stream.resets  # of the stream when that was so
        self._throttled = ThrottledLog(log)
        self._jump_log = ThrottledLog(log, period=1.0)  # two cameras with two clocks on one topic jump all the time
        self._facts, self._jumps = self._stream_facts(), stream.jumps
        self._open: dict[Request, None] = {}  # the questions that hold a place, the oldest first
        self._place_times = PlaceTimes()
        self._running: deque[ChunkReport] = deque()  # chunks whose time is not known yet, the oldest first

    # --- frames ---------------------------------------------------------------------------------------------

    def drop(self, reason: str, count: int, message: str) -> None:
        """Count lost frames; `message` is logged now and then."""
        self._shared.frames.drops[reason] += count
        if message:
            self._shared.problem = message
            self._throttled.warning(reason, message)

    def drop_oldest(self, limit: int) -> None:
        """Lose the frame that is queued for longest, since no more than `limit` may be."""
        for i, item in enumerate(self._shared.queue):
            if isinstance(item, Incoming):
                del self._shared.queue[i]
                break
        self._shared.frames.queued -= 1
        self.drop(
            "queue_full",
            1,
            f"the engine is behind: {limit} frames wait (queue_frames), the oldest is dropped; "
            "lower target_fps or max_pixels, or use a faster device",
        )

    def refused(self, reason: str, message: str) -> None:
        """A frame in hand could not be used."""
        with self._shared.changed:
            self._shared.frames.in_hand -= 1
            self.drop(reason, 1, message)

    def offered(self, item: Incoming, offered: Offered) -> None:
        """A frame in hand was offered to the stream."""
        with self._shared.changed:
            self._shared.frames.in_hand -= 1
            if offered.kept:
                self._shared.frames.pending += 1
                self.arrivals.append(item.arrived)
            else:
                self._shared.frames.skipped += 1
        if offered.jump is not None:
            self._jump_log.warning(offered.jump.kind, offered.jump.told(self._stream.config))
            self.settle("time_jump")

    def settle(self, reason: str, message: str = "") -> None:
        """Book what became of the frames that waited: the stream holds them now, still waits, or has lost them."""
        stream = self._stream
        waiting = len(stream.pending)
        with self._shared.changed:
            frames = self._shared.frames
            # Those of a memory that was gone back to are no new ones.
            gained = max(0, stream.frames - self._booked) if stream.resets == self._resets else 0
            lost = frames.pending - waiting - gained
            frames.pending = waiting
            frames.ingested += gained
            if lost:
                self.drop(reason, lost, message)
            self._booked, self._resets = stream.frames, stream.resets
            while len(self.arrivals) > waiting:
                self.arrivals.popleft()
            self._facts, self._jumps = self._stream_facts(), stream.jumps

    def brought(self, waiting: int) -> None:
        """A memory was gone back to that came with frames that wait for their chunk: they are received now."""
        with self._shared.changed:
            self._shared.frames.received += waiting
            self._shared.frames.pending += waiting
            self.arrivals.extend([time.monotonic()] * waiting)

    # --- questions ------------------------------------------------------------------------------------------

    def check_room(self, limit: int) -> None:
        """Raise `BusyError` if no more than `limit` questions may be waiting or being answered, and they are."""
        active = self._shared.questions.active
        if active < limit:
            return
        now = time.monotonic()
        seconds = self._place_times.promise(now, [now - r.asked_at for r in self._open], active - limit + 1)
        if seconds is None:
            hint = "none has ended yet, so nobody knows when a place will be free; ask again later"
        else:
            hint = f"by the time that recent ones took, a place is free in about {seconds:.1f} s; ask again then"
        raise BusyError(
            f"busy: {active} questions are waiting or being answered and max_questions is {limit}; {hint}", seconds
        )

    def asked(self, request: Request) -> None:
        """A question came, and has a place."""
        self._shared.questions.asked += 1
        self._shared.questions.active += 1
        self._open[request] = None

    def turned_away(self, error: Exception) -> None:
        """A question came, and got no place."""
        self._shared.questions.asked += 1
        self._shared.questions.count(error)

    def ended(self, request: Request, end: Finish | Exception) -> None:
        """A question that had a place came to its end."""
        with self._shared.changed:
            self._shared.questions.active -= 1
            self._shared.questions.count(end)
            del self._open[request]
            self._place_times.add(time.monotonic() - request.asked_at)

    # --- the rest -------------------------------------------------------------------------------------------

    def chunk(self, report: ChunkReport) -> None:
        """A chunk was encoded, or a GPU was told to."""
        with self._shared.changed:
            self._shared.chunks.count += 1
            self._running.append(report)
            self._time_chunks()

    def _time_chunks(self) -> None:
        while self._running and self._running[0].time.done:
            self._shared.chunks.add(self._running.popleft().seconds)

    def look(self, seconds: float) -> None:
        """The standing questions were asked."""
        with self._shared.changed:
            self._shared.watch_times.count += 1
            self._shared.watch_times.add(seconds)

    def problem(self, message: str) -> None:
        """What went wrong last, in words; empty when that is over."""
        with self._shared.changed:
            self._shared.problem = message

    def unseen(self) -> str:
        """Why there is no video although images came, in words; empty if none was dropped."""
        with self._shared.changed:
            frames, problem = self._shared.frames, self._shared.problem
            dropped = ", ".join(f"{reason} {count}" for reason, count in sorted(frames.drops.items()) if count)
            if not dropped:
                return ""
            why = f"; the last problem: {problem}" if problem else ""
            return f"no video yet: of {frames.received} images none was kept, dropped are {dropped}{why}"

    def status(self, watches: int) -> RunnerStatus:
        """Counters and sizes, all of the same moment."""
        shared = self._shared
        with shared.changed:
            self._time_chunks()
            return RunnerStatus(
                shared.frames.copy(),
                shared.questions.copy(),
                replace(shared.chunks),
                *self._facts,
                shared.problem,
                watches,
                replace(shared.watch_times),
                self._jumps,
            )

    def _stream_facts(self) -> tuple[int, int, Evicted, tuple[int, int] | None, int, int]:
        s, state = self._stream, self._stream.state
        return (
            s.cache.length,
            s.cache.memory_bytes,
            s.evicted,
            s.frame_size,
            state.first_stamp_ns,
            state.last_stamp_ns,
        )
