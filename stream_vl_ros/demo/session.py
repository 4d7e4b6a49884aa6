"""The demo itself: three processes, one timetable."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_vl_ros.demo.errors import DemoError
from stream_vl_ros.demo.processes import Child, Event, end_all
from stream_vl_ros.demo.questions import Question
from stream_vl_ros.demo.records import Asked, Status
from stream_vl_ros.demo.timeline import Timeline

# The node's status comes once a second; several missing ones in a row mean that it hangs.
_SILENCE = 30.0
# A waiting odd frame must be told from one whose chunk is about to be flushed.
_SETTLED = 5.0
# Added to the node's own timeout for the way there and back.
_MARGIN = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        bag, topic: recording to replay, and its image topic.
        images, seconds: what the recording holds of it.
        questions: in the order of their times.
        model, device: for the node.
        node: command that starts the node.
        node_parameters: further ROS parameters, name to value.
        rate: speed of the replay.
        answer_timeout: seconds per answer.
        load_timeout: seconds for loading the model.
        drain_timeout: seconds without progress after the replay.
        max_new_tokens: longest free answer.
        logs: folder for the processes' logs.
    """

    bag: Path
    topic: str
    images: int
    seconds: float
    questions: tuple[Question, ...]
    model: str
    device: str
    node: tuple[str, ...]
    node_parameters: Mapping[str, str]
    rate: float
    answer_timeout: float
    load_timeout: float
    drain_timeout: float
    max_new_tokens: int
    logs: Path


class Session:
    """One run of the demo. `run` once, and `close` always.

    Attributes:
        asked: questions asked so far.
        published: images that the replay sent.
        status: the node's latest counters.
    """

    def __init__(self, plan: Plan, env: Mapping[str, str], timeline: Timeline) -> None:
        self.asked: list[Asked] = []
        self.published = 0
        self.status = Status()
        self._plan, self._env, self._timeline = plan, env, timeline
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._children: list[Child] = []
        self._pending = list(plan.questions)
        self._position = 0.0
        self._origin = 0
        self._replayed: Event | None = None
        self._heard = time.monotonic()

    def close(self) -> None:
        """End every process that was started."""
        end_all(self._children)

    def run(self) -> None:
        """Load, replay, ask, and wait until every frame has found its place.

        Raises:
            DemoError: a process died, the model cannot be loaded, or one of the timeouts passed.
        """
        self._node = self._start("node", self._node_command(), talks=False)
        self._asker = self._start("asking process", [sys.executable, "-m", "stream_vl_ros.demo.asker"])
        self._load()
        self._replay = self._start("replay", self._replay_command())
        self._heard = time.monotonic()
        self._play()
        self._drain()

    # --- the three acts --------------------------------------------------------------------------------------

    def _load(self) -> None:
        begin = time.monotonic()
        while not (self.status.state == "active" and self.status.service):
            seconds = time.monotonic() - begin
            if self.status.state == "error":
                raise DemoError(f"The node cannot load model {self._plan.model!r}: {self.status.message}")
            if seconds > self._plan.load_timeout:
                raise DemoError(
                    f"The node was not ready after {seconds:.0f} s (state {self.status.state or 'unknown'!r}). Give it "
                    f"longer with --load-timeout. The end of its log:\n{self._node.tail()}"
                )
            self._timeline.loading(seconds, self._node.last_line())
            self._take(0.25, alive=(self._node, self._asker))
        status = self.status
        self._timeline.say(
            f"model    {status.model}, {status.device}, {status.dtype}, ready after {time.monotonic() - begin:.1f} s"
        )
        if status.is_random:
            self._timeline.say(RANDOM_WARNING, "bold yellow")
        self._timeline.say("")

    def _play(self) -> None:
        while self._replayed is None or self._unanswered():
            self._take(0.1, alive=(self._node, self._asker))
            self._ask_what_is_due()
            code = self._replay.exit_code
            if self._replayed is None and code is not None:
                # Its last event may still have been in the queue.
                self._take(0.0, alive=())
                if self._replayed is None:
                    raise DemoError(f"The replay ended with code {code}. It said:\n{self._replay.tail()}")
            if time.monotonic() - self._heard > _SILENCE:
                raise DemoError(
                    f"The node said nothing on /stream_vl/status for {_SILENCE:.0f} s. "
                    f"The end of its log:\n{self._node.tail()}"
                )
            self._timeline.playing(self._position, self._plan.seconds, self.published, self.status)
            if self._replayed is not None and self._given_up():
                return

    def _drain(self) -> None:
        changed, last = time.monotonic(), None
        while True:
            status = self.status
            now = (status.received, status.ingested, status.skipped, status.dropped, status.waiting)
            if now != last:
                changed, last = time.monotonic(), now
            quiet = time.monotonic() - changed
            if status.received >= self.published and status.waiting == 0:
                return
            if status.received >= self.published and status.waiting == 1 and quiet > _SETTLED:
                return
            if quiet > self._plan.drain_timeout:
                return
            self._timeline.draining(status)
            self._take(0.1, alive=(self._node, self._asker))

    # --- inside ----------------------------------------------------------------------------------------------

    def _start(self, name: str, command: list[str], *, talks: bool = True) -> Child:
        log = self._plan.logs / f"{name.replace(' ', '_')}.log"
        child = Child(name, command, env=self._env, log=log, events=self._events if talks else None)
        self._children.append(child)
        return child

    def _node_command(self) -> list[str]:
        parameters = {
            "model": self._plan.model,
            "device": self._plan.device,
            "image_topic": self._plan.topic,
            "qos_reliability": "reliable",
            "qos_depth": "100",
            **self._plan.node_parameters,
        }
        command = [*self._plan.node, "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={value}"]
        return command

    def _replay_command(self) -> list[str]:
        plan = self._plan
        return [
            *(sys.executable, "-m", "stream_vl_ros.bag.replay", str(plan.bag), "--topic", plan.topic),
            *("--rate", str(plan.rate), "--reliable", "--wait-for-subscribers", "1", "--progress-json"),
        ]

    def _take(self, seconds: float, *, alive: tuple[Child, ...]) -> None:
        """Handle what the processes say for up to `seconds`; returns after the first burst."""
        codes = [(child, child.exit_code) for child in alive]
        try:
            event = self._events.get(timeout=seconds) if seconds else self._events.get_nowait()
            while True:
                self._handle(event)
                event = self._events.get_nowait()
        except queue.Empty:
            pass
        for child, code in codes:
            if code is not None:
                raise DemoError(f"The {child.name} died with code {code}. The end of its log:\n{child.tail()}")

    def _handle(self, event: Event) -> None:
        kind = event["event"]
        if kind == "status":
            self.status = Status.from_event(event)
            self._heard = time.monotonic()
        elif kind == "answer":
            self._on_answer(event)
        elif kind == "sent":
            self.published = event["number"]
            self._position = event["position"]
            if self.published == 1:
                self._origin = event["stamp"] - round(event["position"] * 1e9)
        elif kind == "finished":
            self.published = event["published"]
            self._replayed = event

    def _ask_what_is_due(self) -> None:
        while self._pending and (self._replayed is not None or self._pending[0].at <= self._position):
            question = self._pending.pop(0)
            item = Asked(len(self.asked) + 1, question, self._position, time.monotonic())
            self._asker.send(
                id=item.number,
                question=question.text,
                choices=list(question.choices),
                timeout=self._plan.answer_timeout,
                max_new_tokens=self._plan.max_new_tokens,
            )
            self.asked.append(item)
            self._timeline.asked(item)

    def _on_answer(self, event: dict[str, Any]) -> None:
        item = self.asked[event["id"] - 1]
        item.answer, item.status = event, self.status
        self._timeline.answered(item, self._origin)

    def _unanswered(self) -> bool:
        return bool(self._pending) or any(item.answer is None for item in self.asked)

    def _given_up(self) -> bool:
        """Whether every missing answer is overdue."""
        limit = time.monotonic() - self._plan.answer_timeout - _MARGIN
        return not self._pending and all(item.answer is not None or item.moment < limit for item in self.asked)


RANDOM_WARNING = (
    "The model is the seeded random one: it was never trained, and its answers mean nothing. "
    "Everything around it is real. For answers with a meaning: --model with a folder or a hub id."
)
