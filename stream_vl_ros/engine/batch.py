"""A running batch: questions that are being answered, one token each per step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.generation import Generation
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.next_tokens import NextTokens
from stream_vl_ros.engine.out_of_memory import device_memory, give_back, with_room

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A generation that could not go on, and why."""

    generation: Generation
    error: Exception


class DecodeBatch:
    """Free answers that are written side by side. Each is the one that would be written alone.

    They may have been asked at different moments, may join and leave between any two steps, and share every token that
    they have in common: it is read once per step for all of them. Use it on the thread that owns the stream.
    """

    def __init__(
        self,
        model: LoadedModel,
        make_room: Callable[[], object] = give_back,
        numbers: Callable[[], str] | None = None,
    ) -> None:
        """A batch without rows.

        Args:
            model: what writes the answers.
            make_room: called when memory runs out, before the step is tried once more.
            numbers: who holds how much, in words, for the error if that did not help; the device's own by default.
        """
        self._model = model
        self._make_room = make_room
        self._numbers = numbers or (lambda: device_memory(model.adapter.device))
        self._cache = BatchCache(model.adapter.cache_shape)
        self._generations: list[Generation] = []

    def __len__(self) -> int:
        return len(self._generations)

    def __contains__(self, generation: Generation) -> bool:
        return generation in self._generations

    @property
    def memory_bytes(self) -> int:
        """Bytes that questions and answers take; what they share with the stream is not counted."""
        return self._cache.memory_bytes

    def add(self, generation: Generation) -> None:
        """Let a generation whose question was read join. Its fork's tokens move here."""
        assert not generation.done and generation.tokens, "add() after prefill() and before the end"
        self._cache.join(generation.fork.cache)
        self._generations.append(generation)
        generation.fork.cache.discard()

    def remove(self, generation: Generation) -> None:
        """Let a generation leave, finished or not."""
        index = self._generations.index(generation)
        self._cache.leave(index)
        self._generations[index] = self._generations[-1]
        self._generations.pop()

    def step(self) -> list[Failure]:
        """Write the next token of every generation. Those that finish, or fail, leave.

        If the batch as a whole fails its rows are tried one by one, so that one of them cannot take the others along.

        Returns the generations that failed; they are not stopped yet.
        """
        generations = list(self._generations)
        failures = []
        for generation, scores in zip(generations, self._scores(generations), strict=True):
            if isinstance(scores, Exception):
                failures.append(Failure(generation, scores))
                continue
            try:
                generation.take(*scores)
            except Exception as error:
                failures.append(Failure(generation, error))
        failed = [f.generation for f in failures]
        for generation in generations:
            if generation.done or generation in failed:
                self.remove(generation)
        return failures

    def _scores(self, generations: Sequence[Generation]) -> Sequence[tuple[Tensor, int] | Exception]:
        """Scores of each generation's next token, float32 (vocabulary,), with the best token; or what went wrong."""
        rows = list(range(len(generations)))
        try:
            return self._with_room(rows)
        except Exception as error:
            if len(rows) == 1:
                return [error]
            log.warning("a batch of %d answers failed, trying them one by one", len(rows), exc_info=True)
        results: list[tuple[Tensor, int] | Exception] = []
        for row in rows:
            try:
                results += self._with_room([row])
            except Exception as error:
                results.append(error)
        return results

    def _with_room(self, rows: Sequence[int]) -> Sequence[tuple[Tensor, int] | Exception]:
        found = with_room(lambda: self._forward(rows), self._make_room, self._numbers)
        try:
            # For all rows at once: each look at a GPU's result waits until it is there.
            return list(zip(found.scores, found.best(), strict=True))
        except Exception as error:
            # The tokens are in the cache: they must not be written once more.
            return [error] * len(rows)

    @torch.inference_mode()
    def _forward(self, rows: Sequence[int]) -> NextTokens:
        generations = [self._generations[i] for i in rows]
        tokens, starts = [g.next_token for g in generations], [g.fork.position for g in generations]
        more = all(g.predictable for g in generations)
        with self._cache.only(rows):
            found = self._model.adapter.write(tokens, starts, self._cache, more=more)
        for generation in generations:
            generation.fork.position += 1
        return found
