"""Callers of a soak: threads that ask all the time, in every way, and know how each request has to end."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

from stream_vl_ros.bench.soak_script import RUNNER
from stream_vl_ros.engine import Answer, EngineRunner, Question
from stream_vl_ros.errors import ConfigError, PromptError, RequestError

PATIENCE = 600.0
DIALOGUES = 6
MOST_WRONG = 20


@dataclass(slots=True)
class Tally:
    """How requests ended, as their callers count it.

    Attributes:
        asked: requests that the engine took.
        ends: of those, by how they ended.
        refused: requests that it did not take.
        wrong: ends that must not be, in words; the first ones.
    """

    asked: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take over what somebody else counted."""
        self.asked += other.asked
        self.ends += other.ends
        self.refused += other.refused
        self.wrong += other.wrong


class Caller(threading.Thread):
    """Asks one thing after the other until it is told to stop. Its tally is read when it has ended."""

    def __init__(self, runner: EngineRunner, number: int) -> None:
        super().__init__(name=f"caller_{number}", daemon=True)
        self.tally = Tally()
        self._runner, self._number = runner, number
        self._over = threading.Event()

    def stop(self) -> None:
        """Finish what is being asked, then end."""
        self._over.set()

    def run(self) -> None:
        """Ask."""
        ways = (
            *(self._free, self._choices, self._talk, self._cancelled_at_once, self._sampled, self._bound),
            *(self._free, self._hurried, self._talk, self._cancelled_later, self._unusable, self._unheard),
            *(self._talk, self._choices, self._burst),
        )
        try:
            for turn in itertools.count(self._number * 5):
                if self._over.is_set():
                    return
                ways[turn % len(ways)](turn)
        except Exception as error:  # a thread that ends early would show nowhere
            self._wrong(f"caller {self._number} stopped: {type(error).__name__}: {error}")

    # --- ways of asking -------------------------------------------------------------------------------------

    def _free(self, turn: int) -> None:
        pieces: list[str] = []
        answer = self._answered(self._ask(Question("What is visible now?"), on_text=pieces.append))
        if answer is not None and "".join(pieces) != answer.text:
            self._wrong(f"pieces {pieces} of the text {answer.text!r}")

    def _choices(self, turn: int) -> None:
        options = ("yes", "no")
        answer = self._answered(self._ask(Question("Is there a green object?", choices=options)))
        if answer is not None and (answer.text not in options or len(answer.scores) != len(options)):
            self._wrong(f"chose {answer.text!r} of {options}")

    def _talk(self, turn: int) -> None:
        texts = ("How many objects are there?", "What is visible now?", "Where is it?")
        name = f"talk {turn // 3 % DIALOGUES}"
        self._answered(self._ask(Question(texts[turn % 3], max_new_tokens=32), dialogue=name))

    def _sampled(self, turn: int) -> None:
        self._answered(self._ask(Question("Describe the scene.", temperature=0.8, top_p=0.9, seed=turn)))

    def _bound(self, turn: int) -> None:
        answer = self._answered(self._ask(Question("How many objects are there?", regex=r"\d")))
        if answer is not None and not answer.text.isdigit():
            self._wrong(f"{answer.text!r} is no digit")

    def _cancelled_at_once(self, turn: int) -> None:
        future = self._ask(Question("Describe the scene."))
        if future is not None:
            self._cancel(future)

    def _cancelled_later(self, turn: int) -> None:
        begun = threading.Event()
        future = self._ask(Question("Describe the scene."), on_text=lambda _: begun.set())
        if future is not None:
            if not begun.wait(PATIENCE):
                self._wrong("no piece of an answer came")
            self._cancel(future)

    def _hurried(self, turn: int) -> None:
        self._end(self._ask(Question("Describe the scene."), timeout=(0.0, 0.003, 0.03)[turn % 3]), "timed out")

    def _unheard(self, turn: int) -> None:
        def broken(piece: str) -> None:
            raise ValueError(f"a listener that fails at {piece!r}")

        self._end(self._ask(Question("What is visible now?"), on_text=broken), "failed", never="answered")

    def _unusable(self, turn: int) -> None:
        makes: tuple[Callable[[], Question], ...] = (
            lambda: Question("  "),
            lambda: Question("What?", max_new_tokens=0),
            lambda: Question("What?", choices=("one",)),
            lambda: Question("What?", regex="("),
        )
        try:
            makes[turn % len(makes)]()
        except (PromptError, ConfigError):
            self.tally.refused += 1
        else:
            self._wrong("a question that cannot be used was taken")

    def _burst(self, turn: int) -> None:
        question = Question("How many objects are there?", max_new_tokens=4)
        futures = [self._ask(question, pause=0.0) for _ in range(RUNNER.max_questions + 4)]
        if None not in futures:
            self._wrong("more questions at once than max_questions were taken")
        for future in futures:
            if future is not None:
                self._answered(future)

    # --- how they end ---------------------------------------------------------------------------------------

    def _ask(
        self,
        question: Question,
        *,
        timeout: float = PATIENCE,
        dialogue: str = "",
        on_text: Callable[[str], None] | None = None,
        pause: float = 0.05,
    ) -> Future[Answer] | None:
        """Ask; None, after a pause, if too many are being answered."""
        try:
            future = self._runner.ask(question, timeout=timeout, dialogue=dialogue, on_text=on_text)
        except RequestError as error:
            self.tally.refused += 1
            if "busy" not in str(error):
                self._wrong(f"refused: {error}")
            self._over.wait(pause)
            return None
        self.tally.asked += 1
        return future

    def _answered(self, future: Future[Answer] | None) -> Answer | None:
        return self._end(future, "answered")

    def _cancel(self, future: Future[Answer]) -> None:
        future.cancel()
        self._end(future, "cancelled")

    def _end(self, future: Future[Answer] | None, expected: str, never: str = "") -> Answer | None:
        """Count how a request ends. It may always be answered, unless that is what it must never be."""
        if future is None:
            return None
        answer = None
        try:
            answer = future.result(PATIENCE)
            end = "answered" if answer.complete else "timed out"
        except CancelledError:
            end = "cancelled"
        except RequestError as error:
            end = "timed out" if "timed out" in str(error) else "failed"
        self.tally.ends[end] += 1
        if end == never or end not in (expected, "answered"):
            self._wrong(f"{end} where it had to be {expected}")
        return answer

    def _wrong(self, what: str) -> None:
        if len(self.tally.wrong) < MOST_WRONG:
            self.tally.wrong.append(what)
