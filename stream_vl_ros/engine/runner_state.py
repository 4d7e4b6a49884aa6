"""What the engine thread and its callers share: work that is queued, counters, and what is told of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from stream_vl_ros.engine.answer import Answer
from stream_vl_ros.engine.counters import ChunkTimes, FrameCounters, QuestionCounters
from stream_vl_ros.engine.deferred_fork import DeferredFork
from stream_vl_ros.engine.generation import Generation
from stream_vl_ros.engine.memory.ledger import Evicted
from stream_vl_ros.engine.question import Question
from stream_vl_ros.engine.stream import Picture
from stream_vl_ros.engine.time_jump import JumpCounters


@dataclass(slots=True)
class Incoming:
    """A frame in the queue."""

    picture: Picture
    stamp_ns: int
    arrived: float


@dataclass(slots=True, eq=False)
class Request:
    """A question, in the queue or being answered."""

    question: Question
    remember: bool
    future: Future[Answer]
    asked_at: float
    deadline: float
    dialogue: str = ""
    on_text: Callable[[str], None] | None = None
    deferred: DeferredFork | None = None  # until the question is read
    generation: Generation | None = None
    resets: int = 0  # of the stream when it was forked


@dataclass(slots=True)
class Control:
    """Something to run on the engine thread; frames that it loses are dropped for `reason`."""

    action: Callable[[], object]
    future: Future[Any]
    reason: str = "reset"


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """The stream and its accounts at one moment.

    Attributes:
        frames, questions, chunks: counters.
        cache_tokens, cache_bytes: what the stream's KV cache holds and occupies.
        evicted: what the stream forgot to stay in its budget.
        frame_size: height and width of an encoded frame in pixels; None before the first.
        first_stamp_ns, last_stamp_ns: of the first and the last frame in the cache, in the order of arrival; 0 without
            any.
        problem: the last thing that went wrong since the last reset, in words; empty if nothing did.
        watches: standing questions.
        watch_times: looks at them, one per chunk that was encoded while there were any.
        jumps: of header stamps, since the runner was made.
    """

    frames: FrameCounters
    questions: QuestionCounters
    chunks: ChunkTimes
    cache_tokens: int
    cache_bytes: int
    evicted: Evicted
    frame_size: tuple[int, int] | None
    first_stamp_ns: int
    last_stamp_ns: int
    problem: str
    watches: int = 0
    watch_times: ChunkTimes = field(default_factory=ChunkTimes)
    jumps: JumpCounters = field(default_factory=JumpCounters)


@dataclass(slots=True)
class Shared:
    """What more than one thread reads or writes, always under `changed`."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    queue: deque[Incoming | Request | Control] = field(default_factory=deque)
    frames: FrameCounters = field(default_factory=FrameCounters)
    questions: QuestionCounters = field(default_factory=QuestionCounters)
    chunks: ChunkTimes = field(default_factory=ChunkTimes)
    watch_times: ChunkTimes = field(default_factory=ChunkTimes)
    problem: str = ""
    closing: bool = False
