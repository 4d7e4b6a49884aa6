"""Steps of answers as CUDA graphs: one launch for a token of every answer, or for a whole question.

A graph is captured once per number of rows and tokens, rounded up, and reads everything that changes from its table
(`plan`). What fits no graph runs layer by layer as chunks do.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from stream_vl_ros.engine.batch_cache import BatchCache, StepRows, step_rows
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.fused.ahead import Ahead, on_host
from stream_vl_ros.engine.fused.attention import StepAttention, StepShape, workspace_size
from stream_vl_ros.engine.fused.capture import Pool, captured
from stream_vl_ros.engine.fused.language import FusedLanguage
from stream_vl_ros.engine.fused.plan import StepPlan
from stream_vl_ros.engine.fused.toolkit import starts_early
from stream_vl_ros.engine.next_tokens import NextTokens

log = logging.getLogger(__name__)

# Answers side by side, and tokens of a question, that graphs are made for.
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
TOKEN_BUCKETS = (16, 32, 48, 64, 96, 128, 192, 256)
# Warmed up: what questions of ordinary length and a few answers side by side need.
_WARM_ROWS = (1, 2, 4, 8, 16)
_WARM_TOKENS = (16, 32, 48, 64, 96, 128)


class _TooManyPlacesError(Exception):
    """What the rows read lies in more places than a table holds."""


class StepGraph:
    """One captured step."""

    def __init__(
        self, language: FusedLanguage, shape: StepShape, device: torch.device, scores: Tensor, pool: Pool
    ) -> None:
        """Not captured yet. `scores` (rows, vocabulary), in the model's dtype, are written by every run, and shared."""
        self._language, self.scores, self._pool = language, scores, pool
        self.plan = StepPlan(shape, device)
        self._early = shape.rows * shape.tokens == 1 and starts_early(device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self) -> Tensor:
        """The step as the table says: scores (rows, vocabulary), overwritten by the next one."""
        if self._graph is None:
            # Once without capturing, in the stream whose workspaces are there already: kernels are compiled.
            self._step()
            self._graph = captured(self._step, self._pool)
        self._graph.replay()
        return self.scores

    def advance(self, tokens: Tensor) -> None:
        """Have the table say what comes after the step that it says: these tokens, int64 (rows,), one place on."""
        views = self.plan.views
        fresh = views["fresh"]  # 0 for rows that are padding
        views["ids"].copy_(tokens[:, None])
        views["positions"].add_(fresh[:, None])
        views["past"].add_(fresh)

    def _step(self) -> None:
        views, shape = self.plan.views, self.plan.shape
        # Out of the memory that all graphs use in turn.
        workspace = torch.empty(workspace_size(shape), dtype=torch.float32, device=self.scores.device)
        attention = StepAttention(shape, views, self._language.scale, workspace, self._early)
        embeds = self._language.embed(views["ids"])
        cosine, sine = self._language.angles(embeds, views["positions"].expand(3, -1, -1))
        residual, delta = self._language.run(
            embeds.view(shape.rows * shape.tokens, -1), cosine, sine, attention, early=self._early
        )
        if shape.tokens > 1:
            firsts = torch.arange(shape.rows, device=residual.device) * shape.tokens
            last = firsts + (views["fresh"] - 1).clamp(min=0)
            residual, delta = residual[last], None if delta is None else delta[last]
        self.scores.copy_(self._language.logits(residual, delta))


class StepGraphs:
    """The graphs of one model. Used on the engine's thread."""

    def __init__(self, language: FusedLanguage, device: torch.device, pool: Pool) -> None:
        self._language, self._device, self._pool = language, device, pool
        self._graphs: dict[tuple[int, int], StepGraph] = {}
        self._scores = language.layers[0].norm.new_empty(_WARM_ROWS[-1], language.vocabulary)
        self._ahead: Ahead | None = None
        self.found_ahead = 0  # steps that were there when they were asked for

    def _shape(self, rows: int, tokens: int) -> StepShape:
        lm = self._language
        return StepShape(rows, tokens, lm.heads, lm.kv_heads, lm.dim, len(lm.layers), lm.widest_block)

    @torch.inference_mode()
    def step(self, ids: Sequence[Sequence[int]], starts: Sequence[int], cache: KVCache | BatchCache) -> Tensor | None:
        """Run new tokens of each row and return the scores of the next one, float32 (rows, vocabulary).

        None, with nothing done, if there is no graph for it. Arguments as `ModelAdapter.read_text`.
        """
        self._ahead = None
        rows, tokens = len(ids), len(ids[0])
        key = _bucket(rows, ROW_BUCKETS), _bucket(tokens, TOKEN_BUCKETS) if tokens > 1 else 1
        if key[0] is None or key[1] is None or (rows > 1 and tokens > 1):
            return None
        graph = self._graph(key[0], key[1])
        try:
            with cache.extend(tokens):
                _write(graph, ids, starts, step_rows(cache))
                return graph.run()[:rows].to(torch.float32, copy=True)
        except _TooManyPlacesError:
            return None

    @torch.inference_mode()
    def write(
        self, tokens: Sequence[int], starts: Sequence[int], cache: KVCache | BatchCache, *, more: bool
    ) -> NextTokens | None:
        """Run one new token of each row; with `more` also what comes next, as far as can be said now.

        None, with nothing done, if there is no graph for it. Arguments as `ModelAdapter.write`.
        """
        ahead, self._ahead = self._ahead, None
        rows, bucket = len(tokens), _bucket(len(tokens), ROW_BUCKETS)
        if bucket is None:
            return None
        graph = self._graph(bucket, 1)
        try:
            with cache.extend(1):
                where = step_rows(cache)
                if ahead is not None and ahead.is_it(bucket, tokens, starts, cache, where.slots):
                    self.found_ahead += 1
                else:
                    _write(graph, [[t] for t in tokens], starts, where)
                    graph.run()
                scores = graph.scores.to(torch.float32, copy=True)
                best = scores.argmax(-1)
                found = NextTokens(scores[:rows], on_host(best, rows))
                if more and cache.has_spare(1):
                    graph.advance(best)
                    graph.run()
                    self._ahead = Ahead(
                        bucket, weakref.ref(cache), cache.changes, found.best, tuple(s + 1 for s in starts),
                        tuple(where.slots),
                    )  # fmt: skip
                return found
        except _TooManyPlacesError:
            return None

    def warm_up(self, cache: KVCache) -> None:
        """Capture the graphs of ordinary questions and answers, on throw-away forks of a cache."""
        for rows, tokens in [*((1, t) for t in _WARM_TOKENS), *((r, 1) for r in _WARM_ROWS)]:
            batch = BatchCache(cache.shape)
            forks = [cache.fork() for _ in range(rows)]
            if rows == 1:
                self.step([[0] * tokens], [cache.length], forks[0])
                continue
            for fork in forks:
                batch.join(fork)
            self.step([[0]] * rows, [cache.length] * rows, batch)

    def _graph(self, rows: int, tokens: int) -> StepGraph:
        if (rows, tokens) not in self._graphs:
            shape = self._shape(rows, tokens)
            few = rows <= len(self._scores)
            scores = self._scores[:rows] if few else self._scores.new_empty(rows, self._language.vocabulary)
            self._graphs[rows, tokens] = StepGraph(self._language, shape, self._device, scores, self._pool)
            log.debug("a graph for %d rows of %d tokens", rows, tokens)
        return self._graphs[rows, tokens]


def _write(graph: StepGraph, ids: Sequence[Sequence[int]], starts: Sequence[int], where: StepRows) -> None:
    if not graph.plan.can_hold(where):
        raise _TooManyPlacesError
    graph.plan.write(ids, starts, where)


def _bucket(n: int, buckets: Sequence[int]) -> int | None:
    return next((b for b in buckets if b >= n), None)
