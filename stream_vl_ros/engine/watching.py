"""Looks at the standing questions: all of them in as few passes as fit, on the engine's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stream_vl_ros.engine.answer import Moment
from stream_vl_ros.engine.generation import option_ids
from stream_vl_ros.engine.out_of_memory import with_room
from stream_vl_ros.engine.prompt import Piece
from stream_vl_ros.engine.scoring import Tree, TreeBatch, passes
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.watches import Standing, Watches

log = logging.getLogger(__name__)

Scores = tuple[float, ...]
Outcome = tuple[Standing, tuple[Scores, Moment] | Exception]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Passes for these watches, asked with this piece of prompt."""

    standing: tuple[Standing, ...]
    piece: str
    batches: tuple[tuple[tuple[int, ...], TreeBatch], ...]

    def fits(self, standing: Sequence[Standing], piece: str) -> bool:
        same = len(standing) == len(self.standing) and all(a is b for a, b in zip(standing, self.standing, strict=True))
        return same and piece == self.piece


class Watching:
    """Scores standing questions on forks of a stream. A fork sees the encoded frames, not those that still wait."""

    def __init__(
        self,
        stream: VideoStream,
        watches: Watches,
        *,
        make_room: Callable[[], object],
        numbers: Callable[[], str],
        problem: Callable[[str], None],
    ) -> None:
        """Nothing was looked at yet.

        Args:
            stream: what the questions are about.
            watches: the questions.
            make_room, numbers: see `out_of_memory.with_room`.
            problem: is told what went wrong, in words.
        """
        self.watches = watches
        self._stream = stream
        self._make_room = make_room
        self._numbers = numbers
        self._problem = problem
        self._seen = (stream.resets, 0)  # resets and frames of the stream at the last look
        self._plan: _Plan | None = None

    @property
    def due(self) -> bool:
        """Whether there is video that a watch has not seen."""
        if not self._stream.state.held_frames:
            return False
        if self._moved:
            return len(self.watches) > 0
        return any(not s.looked for s in self.watches.standing())

    @property
    def _moved(self) -> bool:
        return self._seen != (self._stream.resets, self._stream.frames)

    def look(self) -> float | None:
        """Score what is due and tell of changes. Returns the seconds that it took; None if nothing was due.

        Nothing is raised: a watch that fails is reported and takes no other along.
        """
        if not self.due:
            return None
        started = time.perf_counter()
        standing = self.watches.standing()
        if not self._moved:
            standing = [s for s in standing if not s.looked]
        self._seen = (self._stream.resets, self._stream.frames)
        outcomes: list[Outcome] = []
        try:
            plan, unreadable = self._planned(standing)
            outcomes += unreadable
            for indices, batch in plan.batches:
                outcomes += self._outcomes([plan.standing[i] for i in indices], batch)
        except Exception as error:
            known = {id(one) for one, _ in outcomes}
            outcomes += [(one, error) for one in standing if id(one) not in known]
        seconds = time.perf_counter() - started
        for one, outcome in outcomes:
            if isinstance(outcome, Exception):
                self._failed(one, outcome)
            else:
                self._succeeded(one, *outcome, seconds)
        return seconds

    def _planned(self, standing: Sequence[Standing]) -> tuple[_Plan, list[Outcome]]:
        """The passes, and the watches that cannot be turned into a prompt."""
        with self._stream.fork(waiting=False) as fork:
            piece = fork.ask
        if self._plan is not None and self._plan.fits(standing, piece.text):
            return self._plan, []
        readable: list[Standing] = []
        trees: list[Tree] = []
        unreadable: list[Outcome] = []
        for one in standing:
            try:
                trees.append(self._tree(one, piece))
                readable.append(one)
            except Exception as error:
                unreadable.append((one, error))
        device = self._stream.model.adapter.device
        batches = tuple((tuple(group), TreeBatch([trees[i] for i in group], device)) for group in passes(trees))
        plan = _Plan(tuple(readable), piece.text, batches)
        if not unreadable:
            self._plan = plan
        return plan, unreadable

    def _tree(self, standing: Standing, piece: Piece) -> Tree:
        model, watch = self._stream.model, standing.watch
        stem = piece.tokens(model.tokenizer, question=watch.question)
        return Tree(tuple(stem), tuple(tuple(o) for o in option_ids(model, watch.options)))

    def _outcomes(self, standing: Sequence[Standing], batch: TreeBatch) -> list[Outcome]:
        """What a pass gives, or each of its watches alone if it fails."""
        try:
            scores, moment = self._scored(batch)
            return [(one, (each, moment)) for one, each in zip(standing, scores, strict=True)]
        except Exception as error:
            if len(standing) == 1:
                return [(standing[0], error)]
            log.warning("%d watches failed together, trying them one by one", len(standing), exc_info=True)
        outcomes: list[Outcome] = []
        for row, one in enumerate(standing):
            try:
                (alone,), moment = self._scored(batch.only(row))
                outcomes.append((one, (alone, moment)))
            except Exception as error:
                outcomes.append((one, error))
        return outcomes

    def _scored(self, batch: TreeBatch) -> tuple[list[Scores], Moment]:
        def action() -> tuple[list[Scores], Moment]:
            # A fork of its own each time: one that lives on would keep the memory that room is made of.
            with self._stream.fork(waiting=False) as fork:
                return batch.score(fork), fork.moment

        return with_room(action, self._make_room, self._numbers)

    def _succeeded(self, standing: Standing, scores: Scores, moment: Moment, seconds: float) -> None:
        try:
            event = self.watches.succeeded(standing, scores, moment, seconds)
        except Exception as error:
            self._failed(standing, error)
            return
        if event is None:
            return
        try:
            self.watches.tell(event)
        except Exception as error:
            message = f"nobody could be told of watch {standing.watch.name!r}: {type(error).__name__}: {error}"
            log.exception(message)
            self._problem(message)

    def _failed(self, standing: Standing, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        message = f"watch {standing.watch.name!r} could not be looked at: {reason}"
        if standing.error != reason:  # a failure that lasts is logged once
            log.error(message, exc_info=error)
        self.watches.failed(standing, reason)
        self._problem(message)
