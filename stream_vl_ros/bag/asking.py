"""A recording straight into the engine, with questions at their moments. Needs no ROS."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Protocol, TypeVar

import numpy as np

from stream_vl_ros.bag.cdr import NANOSECONDS, check_stamp
from stream_vl_ros.bag.inquiries import Inquiry, Outcome
from stream_vl_ros.bag.reader import BagReader, Message, Topic
from stream_vl_ros.engine.config import RunnerConfig
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.question import Question
from stream_vl_ros.engine.runner import EngineRunner
from stream_vl_ros.engine.runner_state import RunnerStatus
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.errors import BagError, EngineClosedError, FrameError, StreamVLError
from stream_vl_ros.ros.parameters import Value, image_options, stream_config
from stream_vl_ros.ros.pictures import picture_of

T = TypeVar("T")

# Nothing depends on how fast this machine is: chunks are always whole, frames are never dropped.
_CONFIG = RunnerConfig(flush_after=1e9, queue_frames=16, queue_policy="block")
_DIALOGUE = "ask_bag"
# How long one wait may take before a stop is looked at, seconds.
_SLICE = 0.1


class Listener(Protocol):
    """Is told how a run goes; called on the running thread, so it must be quick."""

    def reading(self, position: float, read: int, status: RunnerStatus) -> None:
        """`read` images were read, the last one `position` seconds after the first."""

    def answered(self, outcome: Outcome) -> None:
        """A question was asked, and this became of it."""


class Asking:
    """One run through a recording. `run` once.

    Attributes:
        bag, topic: the recording, and its image topic.
        outcomes: of the questions, in the order of their moments.
        origin: header stamp of the first image, nanoseconds; None before it.
        read: images read so far.
        status: the engine's accounts; once the run is over all of them are final.
        error: what ended the run early, in words; empty if nothing did.
        stopped: it was ended early on request.
    """

    def __init__(
        self,
        model: LoadedModel,
        values: Mapping[str, Value],
        bag: BagReader,
        topic: Topic,
        inquiries: Sequence[Inquiry],
        listener: Listener,
        *,
        dialogue: bool = False,
    ) -> None:
        """Get ready.

        Args:
            model: loaded.
            values: all parameters, checked.
            bag: open.
            topic: of its image topics.
            inquiries: in any order.
            listener: is told how it goes.
            dialogue: whether each question follows those before it and their answers.

        Raises:
            PromptError: a question cannot be asked.
        """
        self.topic = topic
        self.outcomes = [Outcome(i) for i in sorted(inquiries, key=_moment)]
        self.origin: int | None = None
        self.read = 0
        self.error = ""
        self.bag, self._listener = bag, listener
        self._image_options = image_options(values)
        longest = int(values["max_new_tokens"])
        self._questions = {i.number: Question(i.text, i.choices, longest) for i in inquiries}
        self._dialogue = _DIALOGUE if dialogue else ""
        self._runner = EngineRunner(VideoStream(model, stream_config(values)), _CONFIG)
        self._stop = threading.Event()
        self._begin = 0  # log time of the first image
        self._latest = 0  # largest header stamp so far
        self.status = self._runner.status()

    def stop(self) -> None:
        """End the run soon. Safe from signal handlers and other threads."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def complete(self) -> bool:
        """Whether every question was answered."""
        return all(outcome.answer is not None for outcome in self.outcomes)

    def run(self) -> None:
        """Read and ask, until the last question was answered. What goes wrong is in `error` and in the outcomes."""
        try:
            with self._runner:
                try:
                    self._read(deque(self.outcomes))
                except BagError as err:
                    self.error = str(err)
                self._settle()
                self.status = self._runner.status()
        except (_StoppedError, EngineClosedError) as err:
            # Closing has put what was under way into its account.
            self.status = self._runner.status()
            self.error = "stopped" if self.stopped else self.status.problem or str(err)
        for outcome in self.outcomes:
            if outcome.answer is None and not outcome.error:
                outcome.error = f"not answered: {self.error}"

    def _read(self, waiting: deque[Outcome]) -> None:
        for message in self.bag.messages(self.topic):
            self._go_on()
            self._begin = self._begin or message.log_time
            try:
                check_stamp(message.data)
            except FrameError as err:
                self._runner.reject(err)
            else:
                if self.origin is None:
                    self.origin = self._latest = message.stamp
                while waiting and self._is_due(waiting[0].inquiry, message.stamp):
                    self._ask(waiting.popleft())
                if not waiting:
                    # Nobody asks about what comes now.
                    return
                self._latest = max(self._latest, message.stamp)
                self._runner.push(functools.partial(self._picture, message), message.stamp)
            self.read += 1
            position = (message.log_time - self._begin) / NANOSECONDS
            self._listener.reading(position, self.read, self._runner.status())
        while waiting:
            outcome = waiting.popleft()
            outcome.note = self._beyond_the_end(outcome.inquiry)
            self._ask(outcome)

    def _picture(self, message: Message) -> np.ndarray:
        return picture_of(self.bag.decode(self.topic, message), self._image_options)

    def _is_due(self, inquiry: Inquiry, stamp: int) -> bool:
        """Whether an image of this stamp is one that the question must not see."""
        assert self.origin is not None
        return inquiry.at is not None and stamp > self.origin + round(inquiry.at * NANOSECONDS)

    def _beyond_the_end(self, inquiry: Inquiry) -> str:
        if inquiry.at is None or self.origin is None:
            return ""
        end = self._latest - self.origin
        if round(inquiry.at * NANOSECONDS) <= end:
            return ""
        return f"asked at {inquiry.at:g} s, but the recording ends at {end / NANOSECONDS:.2f} s: asked there"

    def _ask(self, outcome: Outcome) -> None:
        inquiry = outcome.inquiry
        try:
            # First what came before it, so that the time to the first token is the question's own.
            self._result(self._runner.call(lambda stream: None))
            question = self._questions[inquiry.number]
            future = self._runner.ask(question, timeout=float("inf"), dialogue=self._dialogue)
            outcome.answer = self._result(future)
        except (_StoppedError, EngineClosedError):
            raise
        except StreamVLError as err:
            outcome.error = str(err)
        self._listener.answered(outcome)

    def _settle(self) -> None:
        """Encode what waits for its chunk, so that it is accounted for as a camera's would be."""
        try:
            self._result(self._runner.call(lambda stream: stream.flush()))
        except (_StoppedError, EngineClosedError):
            raise
        except StreamVLError:
            # Every question is answered. The frames stay in the account of those that wait.
            return

    def _result(self, future: Future[T]) -> T:
        while not wait((future,), _SLICE).done:
            if self.stopped:
                future.cancel()
                raise _StoppedError
        return future.result()

    def _go_on(self) -> None:
        if self.stopped:
            raise _StoppedError


class _StoppedError(Exception):
    """The run is to end."""


def _moment(inquiry: Inquiry) -> float:
    return float("inf") if inquiry.at is None else inquiry.at
