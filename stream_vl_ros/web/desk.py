"""Everything that the page knows, put together. Neither ROS nor web; used on one thread."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stream_vl_ros.errors import WebError
from stream_vl_ros.web.board import Board
from stream_vl_ros.web.history import FRAMES, Entry, History
from stream_vl_ros.web.moments import Moment
from stream_vl_ros.web.numbers import Numbers
from stream_vl_ros.web.presence import Presence
from stream_vl_ros.web.scores import Scores

ALL = "all"
# Seconds that an answer on ~/answer waits for the result of the same question from this page.
_OURS = 1.5
_LOST = 5.0
# Seconds in which the node accepts a question.
_ACCEPT = 10.0
_OF_ANSWER = ("answer", "error", "remembered", "first_stamp", "last_stamp", "frames_seen", "ttft", "total_time",
              "answer_tokens", "cache_tokens")  # fmt: skip

Values = Mapping[str, Any]


class Asker(Protocol):
    """The way to the node."""

    def ask(self, number: int, fields: Values) -> None:
        """Ask; what comes of it is told to the desk under this number."""

    def stop(self, number: int) -> None:
        """End an answer at its next token, if it is still being written."""


class Pictures(Protocol):
    """What the cameras showed."""

    def pin(self, stream: str) -> None:
        """Keep the newest picture as a moment."""

    def span(self, stream: str, first: int, last: int, count: int) -> list[Moment]:
        """Moments of a stream."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question of the page, checked.

    Attributes:
        stream: empty for the only one, "all" for each of them.
        the others: as in srv/Ask.
    """

    question: str
    stream: str = ""
    choices: tuple[str, ...] = ()
    dialogue: str = ""
    regex: str = ""
    max_new_tokens: int = 0
    remember: bool = False

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise WebError("The question is empty; write one.")
        if len(self.choices) == 1:
            raise WebError(f"choices={self.choices[0]!r}: one choice is none; give two at least, or leave it empty")
        if self.choices and self.regex:
            raise WebError("Choices and a regular expression exclude each other; leave one of them out.")


class Desk:
    """Takes what the node tells and what the pages ask, and puts up what the pages show."""

    def __init__(
        self,
        board: Board,
        history: History,
        asker: Asker,
        pictures: Pictures,
        node: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is known yet.

        Args:
            board: what the pages show.
            history: questions and answers; the desk's `show` is to be called with what changes in it.
            asker: the way to the node.
            pictures: what the cameras showed.
            node: the node's name.
            clock: seconds that only grow.
        """
        self.board, self.history = board, history
        self._asker, self._pictures, self._clock = asker, pictures, clock
        self._node = node
        self._presence = Presence(node, os.environ.get("ROS_DOMAIN_ID", "0"))
        self._scores = Scores()
        self._streams: dict[str, Numbers] = {}
        self._asked: dict[int, tuple[float, bool]] = {}  # when, and whether the node has accepted it
        self._ours: deque[tuple[Any, ...]] = deque(maxlen=64)  # results whose message did not come yet
        self._heard: list[tuple[float, Values]] = []  # answers that may be ours
        self._anew_told = -_ACCEPT
        for entry in history:
            self.show(entry)
        self._put_node()
        board.put("streams", [])
        board.put("events", [])

    # --- what the node tells --------------------------------------------------------------------------------

    def streams(self, topics: Mapping[str, str]) -> None:
        """These are the node's streams: name to image topic."""
        for name in [name for name in self._streams if name not in topics]:
            del self._streams[name]
            self._presence.forget(name)
            self.board.put(f"stream/{name}", None)
        for name in topics:
            self._streams.setdefault(name, Numbers())
        self.board.put("streams", [{"name": name, "topic": topic} for name, topic in sorted(topics.items())])

    def status(self, name: str, status: Values) -> None:
        """A stream's status came."""
        now = self._clock()
        numbers = self._streams.setdefault(name, Numbers())
        was = self._presence.standing(now)
        anew = numbers.told(status, now)
        lost = int(status["frames_dropped"])
        self._presence.heard(str(status["state"]), str(status["message"]), now, stream=name, lost=lost)
        if anew or was.state == "gone":
            self._began_anew(now, anew)
        self.board.put(f"stream/{name}", numbers.document())
        self._put_node()

    def limits(self, name: str, limits: Values) -> None:
        """Parameters that bound a stream's memory."""
        if name in self._streams:
            self._streams[name].limits = dict(limits)

    def watches(self, values: Values) -> None:
        """All standing questions."""
        documents, gone = self._scores.listed(values)
        for key, document in documents.items():
            self.board.put(_watch_key(*key), document)
        for key in gone:
            self.board.put(_watch_key(*key), None)

    def event(self, event: Values) -> None:
        """A standing question began to fire, or stopped."""
        key = self._scores.told(event)
        if key in self._scores:
            self.board.put(_watch_key(*key), self._scores.document(key))
        self.board.put("events", list(self._scores.events))

    def answer(self, answer: Values) -> None:
        """An answer came on `~/answer`: one of this page's, or somebody else's."""
        signature = _signature(answer)
        if signature in self._ours:
            self._ours.remove(signature)
        else:
            self._heard.append((self._clock(), answer))

    # --- what becomes of our questions ----------------------------------------------------------------------

    def accepted(self, number: int) -> None:
        """The node works on it."""
        if number in self._asked:
            self._asked[number] = (self._asked[number][0], True)

    def written(self, number: int, text: str) -> None:
        """A piece of the answer."""
        entry = self.history.get(number)
        if entry is not None and not entry.is_final:
            self.history.update(entry, state="writing", answer=entry.answer + text)

    def result(self, number: int, result: Values, *, canceled: bool) -> None:
        """The whole answer, or why there is none."""
        entry = self.history.get(number)
        if entry is None:
            return
        signature = _signature(
            {**result, "question": entry.question, "dialogue": entry.dialogue, "stream": entry.stream}
        )
        known = next((item for item in self._heard if _signature(item[1]) == signature), None)
        if known is not None:
            self._heard.remove(known)
        else:
            self._ours.append(signature)
        self._finish(entry, result, canceled=canceled)

    def failed(self, number: int, reason: str) -> None:
        """It will not be answered."""
        self._asked.pop(number, None)
        entry = self.history.get(number)
        if entry is not None and not entry.is_final:
            self.history.update(entry, state="failed", error=reason)

    # --- what the pages ask ---------------------------------------------------------------------------------

    def ask(self, inquiry: Inquiry) -> list[Entry]:
        """Ask the node; an entry for each camera that is asked.

        Raises:
            WebError: the node is not there, or there is no such camera.
        """
        standing = self._presence.standing(self._clock())
        if not standing.is_there:
            raise WebError(standing.sentence)
        entries = []
        for stream in self._meant(inquiry.stream):
            self._pictures.pin(stream)
            entry = self.history.add(
                time.time(),
                question=inquiry.question,
                stream=stream,
                choices=inquiry.choices,
                dialogue=inquiry.dialogue,
                regex=inquiry.regex,
            )
            self._asked[entry.id] = (self._clock(), False)
            self._asker.ask(
                entry.id,
                {
                    "stream": stream,
                    "question": inquiry.question,
                    "choices": list(inquiry.choices),
                    "dialogue": inquiry.dialogue,
                    "regex": inquiry.regex,
                    "max_new_tokens": inquiry.max_new_tokens,
                    "remember": inquiry.remember,
                },
            )
            entries.append(entry)
        return entries

    def stop(self, number: int) -> None:
        """End an answer."""
        entry = self.history.get(number)
        if entry is None:
            raise WebError(f"There is no answer {number}.")
        if not entry.is_final:
            self._asker.stop(number)

    def topic(self, stream: str) -> str:
        """The image topic of a stream.

        Raises:
            WebError: there is no such stream, or the node has not told yet.
        """
        topic = self._streams[stream].latest.get("image_topic", "") if stream in self._streams else ""
        if not topic:
            raise WebError(f"The node has no camera {stream!r} now." if stream else "The node is not there yet.")
        return str(topic)

    def show(self, entry: Entry) -> None:
        """Put up an entry of the history."""
        self.board.put(f"entry/{entry.id}", entry.document())

    def hide(self, entry: Entry) -> None:
        """Take an entry away."""
        self._asked.pop(entry.id, None)
        self.board.put(f"entry/{entry.id}", None)

    # --- time -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """To be called twice a second or so."""
        now = self._clock()
        self._put_node()
        if not self._presence.standing(now).is_there:
            for entry in self.history.pending():
                self.failed(entry.id, "The node went away before it had answered; ask again when it is back.")
        for number, (asked, accepted) in list(self._asked.items()):
            if not accepted and now - asked > _ACCEPT:
                self._asker.stop(number)
                self.failed(number, f"The node did not take the question within {_ACCEPT:.0f} s; ask again.")
        self._sort_out(now)

    # --- inside ---------------------------------------------------------------------------------------------

    def _meant(self, stream: str) -> Sequence[str]:
        if stream == ALL and ALL not in self._streams:
            return sorted(self._streams)
        if stream not in self._streams:
            raise WebError(f"stream={stream!r}: the node has no such camera now; choose another")
        return [stream]

    def _began_anew(self, now: float, anew: bool) -> None:
        for entry in self.history.pending():
            self.failed(entry.id, "The node was started anew before it had answered; ask again.")
        # Several streams tell of the same start.
        if now - self._anew_told > _ACCEPT:
            words = "The node began anew: it remembers nothing from before." if anew else "The node is back."
            self.history.add(time.time(), state="note", origin="other", answer=words)
        self._anew_told = now

    def _finish(self, entry: Entry, result: Values, *, canceled: bool) -> None:
        self._asked.pop(entry.id, None)
        state = "stopped" if canceled else "done" if result["success"] else "failed"
        values = {name: result[name] for name in _OF_ANSWER}
        if canceled:
            values["error"] = ""
        if not result["success"] and not result["answer"]:
            values["answer"] = entry.answer  # what was written before it went wrong
        moments = self._pictures.span(entry.stream, result["first_stamp"], result["last_stamp"], FRAMES)
        self.history.update(
            entry, state=state, scores=tuple(result["scores"]), moments=tuple(moments or entry.moments), **values
        )

    def _sort_out(self, now: float) -> None:
        """Decide about answers that came on `~/answer` a while ago."""
        for item in list(self._heard):
            since, answer = item
            if now - since < _OURS:
                continue
            pending = next((e for e in self.history.pending() if _question(e) == _question_of(answer)), None)
            if pending is None:
                self._heard.remove(item)
                entry = self.history.add(
                    time.time(),
                    question=answer["question"],
                    origin="other",
                    stream=answer["stream"],
                    choices=tuple(answer["choices"]),
                    dialogue=answer["dialogue"],
                )
                self._finish(entry, answer, canceled=False)
            elif now - since > _LOST:
                # The result was lost on its way.
                self._heard.remove(item)
                self._finish(pending, answer, canceled=False)

    def _put_node(self) -> None:
        standing = self._presence.standing(self._clock())
        self.board.put("node", {"name": self._node, "state": standing.state, "sentence": standing.sentence})


def _watch_key(stream: str, name: str) -> str:
    return f"watch/{stream}/{name}"


def _signature(answer: Values) -> tuple[Any, ...]:
    """Tells answers apart: two of them hardly ever take the same time to the nanosecond."""
    return tuple(answer[k] for k in ("stream", "question", "dialogue", "answer", "error", "ttft", "total_time"))


def _question(entry: Entry) -> tuple[Any, ...]:
    return entry.stream, entry.question, entry.dialogue, tuple(entry.choices)


def _question_of(answer: Values) -> tuple[Any, ...]:
    return answer["stream"], answer["question"], answer["dialogue"], tuple(answer["choices"])
