"""The questions that are being answered: one token each per step, on the engine's thread."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from stream_vl_ros.engine.answer import Answer, Finish
from stream_vl_ros.engine.batch import DecodeBatch
from stream_vl_ros.engine.dialogue import Dialogues
from stream_vl_ros.engine.generation import Generation
from stream_vl_ros.engine.out_of_memory import with_room
from stream_vl_ros.engine.question import Turn
from stream_vl_ros.engine.runner_state import Request
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.errors import EngineClosedError, NoVideoError, RequestError, StreamVLError, TimedOutError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Answering:
    """Takes questions from their turn in the queue to the end of their answer.

    Used on one thread. Every request that is handed over ends in exactly one call of `ended`.
    """

    def __init__(
        self,
        stream: VideoStream,
        dialogues: Dialogues,
        *,
        remember: Callable[[Request, Answer], bool],
        ended: Callable[[Request, Finish | Exception], None],
        make_room: Callable[[], object],
        numbers: Callable[[], str],
        problem: Callable[[str], None],
        unseen: Callable[[], str],
    ) -> None:
        """Nothing is being answered yet.

        Args:
            stream: what the questions are about.
            dialogues: where finished turns go that belong to one.
            remember: makes a turn part of the stream.
            ended: is told how a request ended.
            make_room: called when memory ran out, before what failed is tried once more.
            numbers: who holds how much memory, in words.
            problem: is told what went wrong besides the answers.
            unseen: why there is no video although images came, in words; empty where none came.
        """
        self._stream = stream
        self._dialogues = dialogues
        self._remember = remember
        self._ended = ended
        self._make_room = make_room
        self._numbers = numbers
        self._problem = problem
        self._unseen = unseen
        self._batch = DecodeBatch(stream.model, make_room, numbers)
        self._opening: deque[Request] = deque()  # whose frames and question are still to be read
        self._active: list[Request] = []  # whose answers are being written
        self._read_last = False

    def __bool__(self) -> bool:
        return bool(self._active or self._opening)

    @property
    def pinning(self) -> bool:
        """Whether questions that nobody has begun to read keep more memory of forgotten video than the stream has."""
        cache = self._stream.cache
        return bool(self._opening) and cache.pinned_bytes > cache.memory_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of the questions and answers themselves."""
        return self._batch.memory_bytes

    def begin(self, request: Request) -> None:
        """Fix the moment that a question is about. All work is left to `step`."""
        if not self._still_wanted(request):
            return
        try:
            request.resets = self._stream.resets
            if request.dialogue:
                history = (*self._dialogues.history(request.dialogue), *request.question.history)
                request.question = replace(request.question, history=history)
            request.deferred = with_room(self._stream.defer, self._make_room, self._numbers)
        except NoVideoError as error:
            self.fail(request, NoVideoError(self._unseen() or str(error)))
            return
        except Exception as error:
            self.fail(request, error)
            return
        self._opening.append(request)

    def step(self) -> None:
        """Do one piece of work, with others' turn in between: a token of every answer, or what a new one begins with.

        The two take turns.
        """
        for request in [*self._opening, *self._active]:
            self._still_wanted(request)
        if self._opening and not (self._active and self._read_last):
            self._read_last = True
            self._open(self._opening[0])
        elif self._active:
            self._read_last = False
            self._write()

    def _open(self, request: Request) -> None:
        """Read some of the frames that a question sees, or the question itself."""
        deferred = request.deferred
        assert deferred is not None
        try:
            if not deferred.ready:
                with_room(deferred.advance, self._make_room, self._numbers)
                return
            generation = with_room(lambda: self._started(request), self._make_room, self._numbers)
            request.generation = generation
            if not generation.done:
                with_room(lambda: self._batch.add(generation), self._make_room, self._numbers)
        except Exception as error:
            self.fail(request, error)
            return
        self._opening.remove(request)
        request.deferred = None
        self._active.append(request)
        self._go_on(request)

    def _started(self, request: Request) -> Generation:
        assert request.deferred is not None
        generation = Generation(self._stream.model, request.deferred.fork(), request.question, request.asked_at)
        try:
            generation.prefill()
        except BaseException:
            generation.stop(Finish.CANCELLED)
            raise
        return generation

    def _write(self) -> None:
        failures = {id(f.generation): f.error for f in self._batch.step()}
        for request in list(self._active):
            error = failures.get(id(request.generation))
            if error is not None:
                self.fail(request, error)
            else:
                self._go_on(request)

    def fail(self, request: Request, error: Exception) -> None:
        """End a request without an answer."""
        if request.generation is not None:
            request.generation.stop(Finish.CANCELLED)
        if not isinstance(error, StreamVLError):
            log.error("question %r failed", request.question.text[:80], exc_info=error)
            error = RequestError(f"the engine could not answer: {type(error).__name__}: {error}")
        # What is counted is what the caller gets: one who gave up a moment ago gets neither answer nor error.
        wanted = _claimed(request)
        self._retire(request, error if wanted else Finish.CANCELLED)
        if wanted:
            request.future.set_exception(error)

    def close(self) -> None:
        """End all requests without an answer."""
        for request in [*self._opening, *self._active]:
            self.fail(request, closed_error())

    def _still_wanted(self, request: Request) -> bool:
        """False, and everything put away, if the caller gave up or the deadline passed."""
        generation = request.generation
        if request.future.cancelled():
            if generation is not None:
                generation.stop(Finish.CANCELLED)
            self._retire(request, Finish.CANCELLED)
            # Tells those who wait for the future that it is over.
            request.future.set_running_or_notify_cancel()
            return False
        if time.monotonic() < request.deadline:
            return True
        if generation is None:
            waited = time.monotonic() - request.asked_at
            self.fail(request, TimedOutError(f"timed out after {waited:.1f} s, unread; allow more time (timeout)"))
            return False
        generation.stop(Finish.TIMEOUT)
        self._go_on(request)
        return False

    def _go_on(self, request: Request) -> None:
        """Give out what was written, and the answer if it is the end."""
        assert request.generation is not None
        try:
            if request.on_text is not None and (news := request.generation.news()):
                request.on_text(news)
        except Exception as error:
            self.fail(request, error)
            return
        self._finish_if_done(request)

    def _finish_if_done(self, request: Request) -> None:
        generation = request.generation
        assert generation is not None
        if not generation.done:
            return
        try:
            answer = generation.answer()
        except Exception as error:  # a tokenizer that cannot write what the model said
            self.fail(request, error)
            return
        if not _claimed(request):  # its caller gave up during the last step
            self._retire(request, Finish.CANCELLED)
            return
        if request.remember and answer.complete:
            answer = replace(answer, remembered=self._remember(request, answer))
        if request.dialogue and answer.complete and not answer.remembered:
            self._continue_dialogue(request, answer)
        self._retire(request, answer.finish)
        request.future.set_result(answer)

    def _continue_dialogue(self, request: Request, answer: Answer) -> None:
        try:
            self._dialogues.append(request.dialogue, Turn(request.question.text, answer.text))
        except Exception as error:  # the answer is there all the same
            log.exception("a turn could not become part of dialogue %r", request.dialogue[:80])
            self._problem(
                f"a turn could not become part of dialogue {request.dialogue[:80]!r}: {type(error).__name__}: {error}; "
                "the dialogue goes on without it"
            )

    def _retire(self, request: Request, end: Finish | Exception) -> None:
        for waiting in (self._opening, self._active):
            if request in waiting:
                waiting.remove(request)
        request.deferred = None
        if request.generation is not None and request.generation in self._batch:
            self._batch.remove(request.generation)
        self._ended(request, end)


def _claimed(request: Request) -> bool:
    """Whether its caller still waits; one that does cannot give up any more."""
    return request.future.running() or request.future.set_running_or_notify_cancel()


def closed_error() -> EngineClosedError:
    """What a request gets that the engine did not live to answer."""
    return EngineClosedError("the engine was shut down before it could answer")


def fulfil(future: Future[T], action: Callable[[], T]) -> None:
    """Give a future the result of `action`, or its exception; one that was cancelled stays so."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(action())
    except StreamVLError as error:
        future.set_exception(error)
    except Exception as error:
        log.exception("a request to the engine failed")
        future.set_exception(RequestError(f"the engine could not do it: {type(error).__name__}: {error}"))


def reject(future: Future[T], error: Exception) -> None:
    """Give a future an exception; one that was cancelled stays so."""
    if future.set_running_or_notify_cancel():
        future.set_exception(error)
