"""Chunks as CUDA graphs: vision tower and language model in one launch.

A chunk is a thousand launches, more than many a processor makes in the time that the GPU takes for them. A graph
belongs to one number of frames of one size. The second chunk of a kind is captured; what is seen once runs layer by
layer.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from stream_vl_ros.engine.cache import KVCache, addresses
from stream_vl_ros.engine.fused.attention import OWN_HEAD
from stream_vl_ros.engine.fused.chunk_attention import LEAST_TOKENS, TableAttention
from stream_vl_ros.engine.fused.graphs import Pool
from stream_vl_ros.engine.fused.language import FusedLanguage
from stream_vl_ros.engine.fused.plan import Table
from stream_vl_ros.engine.fused.vision import FusedVision

log = logging.getLogger(__name__)

# Kinds of chunks with a graph: whole ones, and one that did not fill up.
_GRAPHS = 2
# Kinds that are remembered.
_SEEN = 16


class ChunkGraph:
    """One captured chunk."""

    def __init__(
        self, language: FusedLanguage, vision: FusedVision, patches: Tensor, grid: Tensor, tokens: int, pool: Pool
    ) -> None:
        """For chunks like this one; captured by the first `run`."""
        device = patches.device
        self._language, self._vision, self._grid, self._pool = language, vision, grid, pool
        self._patches = torch.empty(patches.shape, dtype=vision.dtype, device=device)
        self._table = Table(
            {
                "positions": (3, tokens),
                "past": (1,),
                "fresh": (1,),
                "slots": (1,),
                "numbers": (2,),
                "own": (OWN_HEAD + 2 * len(language.layers),),
            },
            device,
        )
        self._attention = TableAttention(tokens, language.heads, language.kv_heads, language.dim, self._table.views)
        self._tokens = tokens
        self._graph: torch.cuda.CUDAGraph | None = None

    def run(self, patches: Tensor, positions: Tensor, cache: KVCache) -> None:
        """Read a chunk on top of `cache`, which holds all its tokens itself."""
        with cache.extend(self._tokens):
            self._patches.copy_(patches)
            self._table.begin()
            host, past = self._table.host, cache.own_length
            host["positions"][:] = positions.numpy()
            host["past"][:], host["fresh"][:] = past, self._tokens
            host["numbers"][:] = past, self._attention.splits(past, patches.device)
            host["own"][:OWN_HEAD] = cache.buffers[0][0].stride()[:2]
            host["own"][OWN_HEAD:] = addresses(cache.buffers)
            self._table.send()
            if self._graph is None:
                self._graph = self._captured()
            self._graph.replay()

    def _captured(self) -> torch.cuda.CUDAGraph:
        self._read()  # kernels are compiled, and what depends on the grid alone is made
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._read()
        return graph

    def _read(self) -> None:
        embeds = self._vision(self._patches, self._grid)
        cosine, sine = self._language.angles(embeds[None], self._table.views["positions"][:, None])
        self._language.read_layers(embeds, cosine, sine, self._attention, self._attention.store)


class ChunkGraphs:
    """The graphs of one model. Used on the engine's thread."""

    def __init__(self, language: FusedLanguage, vision: FusedVision, pool: Pool) -> None:
        self._language, self._vision, self._pool = language, vision, pool
        self._graphs: dict[tuple[int, ...], ChunkGraph] = {}
        self._seen: dict[tuple[int, ...], None] = {}

    def read(self, patches: Tensor, grid: Tensor, positions: Tensor, cache: KVCache) -> bool:
        """Read a chunk, if there is a graph for it or now a reason to make one. False, with nothing done, if not.

        Arguments as `ModelAdapter.read_video`.
        """
        tokens, half = positions.shape[1], self._vision.dtype in (torch.float16, torch.bfloat16)
        if cache.shared or cache.rows != 1 or not half or tokens < LEAST_TOKENS:
            return False
        key = tuple(grid.flatten().tolist())
        if key not in self._graphs and not self._worth_it(key):
            return False
        if key not in self._graphs:
            while len(self._graphs) >= _GRAPHS:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = ChunkGraph(self._language, self._vision, patches, grid, tokens, self._pool)
            log.debug("a graph for chunks of %s patches", "x".join(map(str, key)))
        self._graphs[key] = self._graphs.pop(key)  # the one used last is the last to go
        self._graphs[key].run(patches, positions, cache)
        return True

    def _worth_it(self, key: tuple[int, ...]) -> bool:
        if key in self._seen:
            return True
        while len(self._seen) >= _SEEN:
            self._seen.pop(next(iter(self._seen)))
        self._seen[key] = None
        return False
