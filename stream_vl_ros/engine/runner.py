"""The one thread that touches the model: chunks and decode steps interleaved.

Frames and questions go into one queue in the order of their arrival, so a question sees exactly the frames
that came before it. A question is answered on a fork, one token at a time, between chunks; nobody waits for a
whole answer.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from stream_vl_ros.engine.accounts import Accounts
from stream_vl_ros.engine.answer import Answer
from stream_vl_ros.engine.answering import Answering, closed_error, reject
from stream_vl_ros.engine.config import DialogueConfig, RunnerConfig, StreamConfig
from stream_vl_ros.engine.dialogue import Dialogues
from stream_vl_ros.engine.intake import Intake
from stream_vl_ros.engine.memories import Memories
from stream_vl_ros.engine.out_of_memory import device_memory, with_room
from stream_vl_ros.engine.prompt import text_ids
from stream_vl_ros.engine.question import Question
from stream_vl_ros.engine.reconfigured import Reconfigured, changes
from stream_vl_ros.engine.runner_state import Control, Incoming, Request, RunnerStatus, Shared
from stream_vl_ros.engine.saved import aside
from stream_vl_ros.engine.saved.memory_file import SavedMemory
from stream_vl_ros.engine.sharing import Share, Sharing
from stream_vl_ros.engine.stream import Picture, VideoStream
from stream_vl_ros.engine.stream_records import StreamSnapshot
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.engine.watch import Watch
from stream_vl_ros.engine.watches import Watches, WatchReport
from stream_vl_ros.engine.watching import Watching
from stream_vl_ros.errors import EngineClosedError, FrameError, RequestError, StreamVLError

log = logging.getLogger(__name__)

T = TypeVar("T")


class EngineRunner:
    """Runs one stream on a thread of its own. Every public method may be called from any thread.

    Use it in a `with` block, or call `start` and `close`.

    >>> from stream_vl_ros.demo.scene import demo_clip
    >>> from stream_vl_ros.engine import EngineRunner, Question, VideoStream, load_model
    >>> with EngineRunner(VideoStream(load_model("embedded", device="cpu"))) as runner:
    ...     for picture, second in zip(*demo_clip(end=10.0)):
    ...         runner.push(picture, int(second * 1e9))
    ...     one = runner.ask(Question("How many objects are there?"))
    ...     two = runner.ask(Question("Is there a blue square?", choices=("yes", "no")))
    ...     print(one.result().text, two.result().text)
    2 yes
    """

    def __init__(
        self,
        stream: VideoStream,
        config: RunnerConfig | None = None,
        dialogues: DialogueConfig | None = None,
        watches: Watches | None = None,
        share: Share | None = None,
    ) -> None:
        """A runner that is not started yet; the stream, and the standing questions, are its own from now on.

        Runners whose streams share a model have a `share` each, of one `Sharing`.
        """
        self.config = config or RunnerConfig()
        self.dialogues = Dialogues(lambda text: len(text_ids(stream.model.tokenizer, text)), dialogues)
        self._stream = stream
        self._share = share or Sharing().member()
        self._shared = Shared()
        self._accounts = Accounts(self._shared, stream)
        self._answering = Answering(
            stream,
            self.dialogues,
            remember=self._remember,
            ended=self._accounts.ended,
            make_room=self._make_room,
            numbers=self._memory_in_words,
            problem=self._accounts.problem,
            unseen=self._accounts.unseen,
        )
        self._intake = Intake(
            stream,
            self._shared,
            self._accounts,
            self._answering,
            flush_after=self.config.flush_after,
            make_room=self._make_room,
            numbers=self._memory_in_words,
        )
        self._memories = Memories()
        self._watching = Watching(
            stream,
            watches if watches is not None else Watches(),
            make_room=self._make_room,
            numbers=self._memory_in_words,
            problem=self._accounts.problem,
        )
        self._watching.watches.notify(self._wake)
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
            picture = np.array(picture)
        with shared.changed:
            self._check_open()
            if self.config.queue_policy == "block":
                shared.changed.wait_for(self._accepts)
                self._check_open()
            shared.frames.received += 1
            if shared.frames.queued >= self.config.queue_frames:
                self._accounts.drop_oldest(self.config.queue_frames)
            shared.queue.append(Incoming(picture, stamp_ns, time.monotonic()))
            shared.frames.queued += 1
            shared.changed.notify_all()

    def reject(self, error: FrameError) -> None:
        """Count a frame that could not even be handed over."""
        with self._shared.changed:
            self._shared.frames.received += 1
            self._accounts.drop(error.reason, 1, str(error))

    def ask(
        self,
        question: Question,
        *,
        timeout: float = 60.0,
        remember: bool = False,
        dialogue: str = "",
        on_text: Callable[[str], None] | None = None,
    ) -> Future[Answer]:
        """Queue a question behind the frames that came before it.

        Cancelling the returned future stops the answer at the next token.

        Args:
            question: what to answer and how.
            timeout: seconds from now until the answer is cut off (`Finish.TIMEOUT`, with what was written).
            remember: make the finished turn part of the stream.
            dialogue: id of a dialogue. The question follows the turns that were finished in it when its own turn in the
                queue comes, and becomes one of them, unless it is remembered by the stream itself.
            on_text: called on the engine thread with each new piece of the answer's text. All pieces together are the
                text. It must return at once; if it raises, this request fails.

        Raises:
            BusyError: if too many questions wait already; it says when a place is probably free.
            EngineClosedError: after `close`.
        """
        now = time.monotonic()
        request = Request(question, remember, Future(), now, now + timeout, dialogue, on_text)
        shared = self._shared
        with shared.changed:
            try:
                self._check_open()
                self._accounts.check_room(self.config.max_questions)
            except RequestError as error:
                self._accounts.turned_away(error)
                raise
            self._accounts.asked(request)
            shared.queue.append(request)
            shared.changed.notify_all()
        return request.future

    def refuse(self, error: StreamVLError) -> None:
        """Count a question that could not even be asked."""
        with self._shared.changed:
            self._accounts.turned_away(error)

    def call(self, action: Callable[[VideoStream], T], *, reason: str = "reset") -> Future[T]:
        """Run something on the engine thread, in its turn in the queue.

        It may encode or forget frames, which is accounted for: frames that waited and are lost count as dropped for
        `reason`. It must not make frames wait.
        """
        future: Future[T] = Future()
        with self._shared.changed:
            self._check_open()
            self._shared.queue.append(Control(lambda: action(self._stream), future, reason))
            self._shared.changed.notify_all()
        return future

    def reset(self) -> Future[None]:
        """Forget all video. Answers in progress go on with what they saw; waiting frames are dropped.

        What went wrong before (`RunnerStatus.problem`) is over. Dialogues are kept: forget them with
        ``dialogues.forget(id)`` or ``dialogues.clear()``.
        """
        return self.call(self._forget)

    def reconfigure(
        self, stream_config: StreamConfig | None = None, runner_config: RunnerConfig | None = None
    ) -> Future[Reconfigured]:
        """Go on with other settings, from this call's turn in the queue on: not for frames that came before it.

        Both are changed, or neither. What each setting does is told at `VideoStream.reconfigure`; frames that wait when
        the memory begins anew are dropped for reason ``reconfigure``. The runner's own settings count at once; if fewer
        frames may be queued than are, the oldest are dropped.

        The future raises `ConfigError` or `PromptError` for settings that cannot work, and `MemoryFullError`.
        """

        def change(stream: VideoStream) -> Reconfigured:
            done = Reconfigured()
            if stream_config is not None:
                settings = stream_config
                done = with_room(lambda: stream.reconfigure(settings), self._make_room, self._memory_in_words)
            if runner_config is not None:
                done = replace(done, changes=(*done.changes, *changes(self.config, runner_config)))
                self._adopt(runner_config)
            return done

        return self.call(change, reason="reconfigure")

    def check(self, stream_config: StreamConfig) -> None:
        """Raise what `reconfigure` would raise for these settings now, without waiting; nothing changes."""
        self._stream.check(stream_config)

    def keep(self, name: str) -> Future[dict[str, int]]:
        """Keep the present memory under a name, see `Memories.keep`."""
        return self.call(lambda stream: self._memories.keep(stream, name))

    def recall(self, name: str) -> Future[dict[str, int]]:
        """Go back to a memory, see `Memories.recall`. Answers in progress go on with what they saw."""
        return self.call(lambda stream: self._memories.recall(stream, name), reason="restore")

    def discard(self, name: str) -> Future[dict[str, int]]:
        """Let go of a memory, see `Memories.discard`."""
        return self.call(lambda stream: self._memories.discard(name))

    def save(self, folder: str | os.PathLike[str]) -> Future[SavedMemory]:
        """Write the present memory to a folder of its own, see `save_memory`. The stream goes on meanwhile.

        It is the memory of this call's turn in the queue: the frames that came before it are in it.
        """
        return aside.save(self.call, Path(folder))

    def load(self, folder: str | os.PathLike[str]) -> Future[SavedMemory]:
        """Go back to a memory on disk, see `load_memory`; frames since then are forgotten, those that wait are lost.

        The stream goes on until all of it is read and checked, and if it is refused. Answers in progress go on with
        what they saw. Frames that waited when it was saved are received a second time. Settings that are others than
        when it was saved are logged.
        """
        return aside.load(self.call, self._stream, Path(folder), self._go_back)

    def add_watch(self, watch: Watch) -> None:
        """Ask this after every chunk from now on, and at once if there is video already.

        Changes go to the `on_event` of the `Watches` that the runner was made with.

        Raises:
            ConfigError: if there is one of that name, or if there are too many.
            EngineClosedError: after `close`.
        """
        with self._shared.changed:
            self._check_open()
        self._watching.watches.add(watch)

    def remove_watch(self, name: str) -> bool:
        """Ask this no longer. Returns whether there was one of that name."""
        return self._watching.watches.remove(name)

    def watches(self) -> list[WatchReport]:
        """The standing questions and how they stand."""
        return self._watching.watches.reports()

    def status(self) -> RunnerStatus:
        """Counters and sizes, all of the same moment."""
        return self._accounts.status(len(self._watching.watches))

    @property
    def alive(self) -> bool:
        """Whether the engine thread runs: from `start` to `close`, unless something broke it."""
        return self._thread.is_alive()

    def close(self, timeout: float = 10.0) -> None:
        """Stop. Questions that are not answered yet fail with `EngineClosedError`; waiting frames are dropped."""
        with self._shared.changed:
            self._shared.closing = True
            self._shared.changed.notify_all()
        if self._thread.ident is None:
            self._shut_down()
        elif self._thread.is_alive():
            self._thread.join(timeout)

    # --- under the lock -------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._shared.closing:
            raise EngineClosedError("the engine was shut down; start it again first")

    def _accepts(self) -> bool:
        """Whether a frame need not wait to be queued."""
        full = self._shared.frames.queued >= self.config.queue_frames
        return not full or self.config.queue_policy != "block" or self._shared.closing

    def _wake(self) -> None:
        with self._shared.changed:
            self._shared.changed.notify_all()

    # --- the engine thread ----------------------------------------------------------------------------------

    def _loop(self) -> None:
        shared = self._shared
        try:
            while True:
                with shared.changed:
                    if not self._answering:
                        shared.changed.wait_for(self._has_work, self._intake.until_flush())
                    if shared.closing:
                        break
                with self._share:
                    spent = self._intake.take_in()
                    self._share.offer()
                    spent += self._look()
                    self._share.offer()
                    self._decode(spent)
        except BaseException as error:
            log.exception("the engine stopped")
            self._accounts.problem(f"the engine stopped: {type(error).__name__}: {error}; restart the node")
        finally:
            self._shut_down()

    def _has_work(self) -> bool:
        return self._shared.closing or self._intake.due or self._watching.due

    def _look(self) -> float:
        """Ask the standing questions if there is video that they have not seen. Returns the seconds that it took."""
        seconds = self._watching.look()
        if seconds is None:
            return 0.0
        self._accounts.look(seconds)
        return seconds

    def _decode(self, spent: float) -> None:
        """Write tokens for this engine's share of the time, at least one; all the time while nothing else waits.

        Each moment that questions wait for keeps its memory. Where that is forgotten meanwhile, they are read first.
        """
        share = self.config.decode_share
        left = spent * share / (1 - share)
        while self._answering:
            started = time.perf_counter()
            self._answering.step()
            left -= time.perf_counter() - started
            with self._shared.changed:
                if self._shared.closing or (self._has_work() and left <= 0 and not self._answering.pinning):
                    return
            self._share.offer()

    def _remember(self, request: Request, answer: Answer) -> bool:
        """Make a turn part of the stream. A turn about video that was forgotten meanwhile is not."""
        if request.resets != self._stream.resets:
            return False
        try:
            self._stream.remember(request.question.text, answer.text)
        except Exception as error:
            log.exception("the turn %r could not be remembered", request.question.text[:80])
            self._accounts.problem(f"a turn could not be remembered: {type(error).__name__}: {error}")
            return False
        finally:
            self._accounts.settle("encode_error")
        return True

    def _adopt(self, config: RunnerConfig) -> None:
        with self._shared.changed:
            self.config, self._intake.flush_after = config, config.flush_after
            while config.queue_policy == "drop_oldest" and self._shared.frames.queued > config.queue_frames:
                self._accounts.drop_oldest(config.queue_frames)
            self._shared.changed.notify_all()

    def _forget(self, stream: VideoStream) -> None:
        stream.reset()
        self._accounts.problem("")

    def _go_back(self, snapshot: StreamSnapshot) -> None:
        self._stream.restore(snapshot)
        self._accounts.brought(len(self._stream.pending))

    def _make_room(self) -> None:
        """Memory ran out: let go of what can be had again."""
        self._stream.release()

    def _memory_in_words(self) -> str:
        stream = self._stream
        held, pinned, answers = stream.cache.memory_bytes, stream.cache.pinned_bytes, self._answering.memory_bytes
        return (
            f"the video takes {held / MIB:.0f} MiB ({stream.cache.length} tokens), answers {answers / MIB:.0f} MiB, "
            f"forks hold {pinned / MIB:.0f} MiB more; {device_memory(stream.model.adapter.device)}"
        )

    def _shut_down(self) -> None:
        shared = self._shared
        with shared.changed:
            shared.closing = True
            items = list(shared.queue)
            shared.queue.clear()
            frames = shared.frames
            if frames.waiting:
                frames.drops["shutdown"] += frames.waiting
            frames.queued = frames.in_hand = frames.pending = 0
            shared.changed.notify_all()
        for item in items:
            if isinstance(item, Request):
                self._answering.fail(item, closed_error())
            elif isinstance(item, Control):
                reject(item.future, closed_error())
        self._answering.close()
        # The questions outlive the runner, and must not keep it.
        self._watching.watches.notify(lambda: None)
