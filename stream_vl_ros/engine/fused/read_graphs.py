"""Reading visual tokens as CUDA graphs: all layers of the language model in one launch.

A chunk is some hundred launches, more than many a processor makes in the time that the GPU takes for them. A graph
belongs to a number of tokens, and reads everything that changes from its table. What fits no graph runs layer by layer.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.fused.attention import OWN_HEAD
from stream_vl_ros.engine.fused.capture import Pool, captured
from stream_vl_ros.engine.fused.chunk_attention import ITEM, LEAST_TOKENS, SHARED_HEAD, TableAttention
from stream_vl_ros.engine.fused.language import FusedLanguage
from stream_vl_ros.engine.fused.pieces import MOST_SPLITS
from stream_vl_ros.engine.fused.plan import Table
from stream_vl_ros.engine.fused.recent import Recent
from stream_vl_ros.engine.segments import addresses

log = logging.getLogger(__name__)

# Of several cameras: whole chunks, one that did not fill up, and pieces of waiting frames.
_GRAPHS = 12
# A graph serves what is smaller than it by up to this part.
_SPARE = 1 / 16


class ReadGraph:
    """All layers over so many tokens, captured by the first `run`."""

    def __init__(self, language: FusedLanguage, tokens: int, pool: Pool) -> None:
        """Not captured yet."""
        layers = len(language.layers)
        self._language, self._pool = language, pool
        self._embeds = language.layers[0].norm.new_zeros(tokens, language.layers[0].norm.shape[0])
        self._table = Table(
            {
                "positions": (3, tokens),
                "past": (1,),
                "fresh": (1,),
                "slots": (1,),
                "count": (1,),
                "items": (MOST_SPLITS, ITEM),
                "own": (OWN_HEAD + 2 * layers,),
                "shared": (MOST_SPLITS - 1, SHARED_HEAD + 2 * layers),
            },
            self._embeds.device,
        )
        self._attention = TableAttention(tokens, language.heads, language.kv_heads, language.dim, self._table.views)
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def run(self, embeds: Tensor, positions: Tensor, cache: KVCache) -> bool:
        """Read at most as many tokens on top of `cache`. False, with nothing done, if that lies in too many places.

        `embeds` are (tokens, width), `positions` (3, tokens), on the CPU.
        """
        fresh, shared = embeds.shape[0], [s for s in cache.shared if s.length]
        items = self._attention.items(cache.own_length + fresh, [s.length for s in shared])
        if items is None:
            return False
        with cache.extend(fresh):
            self._embeds[:fresh] = embeds
            self._embeds[fresh:] = 0
            self._table.begin()
            host = self._table.host
            host["positions"][:, :fresh] = positions.numpy()
            host["past"][:], host["fresh"][:], host["count"][:] = cache.own_length, fresh, len(items)
            host["items"][:] = 0
            host["items"][: len(items)] = items
            host["own"][:OWN_HEAD] = cache.buffers[0][0].stride()[:2]
            host["own"][OWN_HEAD:] = addresses(cache.buffers)
            for i, segment in enumerate(shared):
                host["shared"][i, :SHARED_HEAD] = segment.length, segment.layers[0][0].stride(1)
                host["shared"][i, SHARED_HEAD:] = segment.addresses
            self._table.send()
            if self._graph is None:
                self._graph = self._captured()
            self._graph.replay()
        return True

    def _captured(self) -> torch.cuda.CUDAGraph:
        embeds = self._embeds.clone()
        self._read()  # kernels are compiled
        graph = captured(self._read, self._pool)
        self._embeds.copy_(embeds)
        return graph

    def _read(self) -> None:
        # The layers add to the embeddings in place: those of the next run are written over them.
        cosine, sine = self._language.angles(self._embeds[None], self._table.views["positions"][:, None])
        self._language.read_layers(self._embeds, cosine, sine, self._attention, self._attention.store)


class ReadGraphs:
    """The graphs of one model. Used on the engine's thread."""

    def __init__(self, language: FusedLanguage, pool: Pool) -> None:
        self._language, self._pool = language, pool
        self._graphs: Recent[int, ReadGraph] = Recent(_GRAPHS)

    def read(self, embeds: Tensor, positions: Tensor, cache: KVCache) -> bool:
        """Read tokens, if there is a graph for so many or a reason to make one. False, with nothing done, if not.

        `embeds` are (tokens, width), `positions` int64 (3, tokens), on the CPU.
        """
        tokens = embeds.shape[0]
        if cache.rows != 1 or not self._can_read(tokens):
            return False
        fitting = [n for n in self._graphs if tokens <= n <= tokens * (1 + _SPARE)]
        if cache.shared and not fitting:
            return False  # small pictures that wait: of any number, and not worth a graph each
        return self._run(min(fitting, default=tokens), embeds, positions, cache, now=False)

    def prepare(self, tokens: int, cache: KVCache) -> None:
        """Make the graph for so many tokens before they come. `cache` is as it was afterwards."""
        if tokens in self._graphs or not self._can_read(tokens):
            return
        norm = self._language.layers[0].norm
        room, length = cache if cache.has_room(tokens) else KVCache(cache.shape), cache.length
        positions = torch.zeros(3, tokens, dtype=torch.int64)
        self._run(tokens, norm.new_zeros(tokens, norm.shape[0]), positions, room, now=True)
        cache.truncate(length)

    def _run(self, key: int, embeds: Tensor, positions: Tensor, cache: KVCache, *, now: bool) -> bool:
        graph = self._graphs.get(key, self._made, now=now)
        if graph is None:
            return False
        try:
            return graph.run(embeds, positions, cache)
        except RuntimeError as error:  # memory ran out, above all
            if graph.captured:
                raise
            log.warning("no graph for reading %d tokens: %s", key, str(error).splitlines()[0])
            self._graphs.give_up(key)
            return False

    def _can_read(self, tokens: int) -> bool:
        return tokens >= LEAST_TOKENS and self._language.layers[0].norm.dtype in (torch.float16, torch.bfloat16)

    def _made(self, tokens: int) -> ReadGraph:
        log.debug("a graph for reading %d tokens", tokens)
        return ReadGraph(self._language, tokens, self._pool)
