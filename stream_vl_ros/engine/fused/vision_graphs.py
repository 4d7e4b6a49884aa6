"""The vision tower as CUDA graphs: one for each kind of picture, or of chunk where pictures are small."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from stream_vl_ros.engine.fused.capture import Pool, captured
from stream_vl_ros.engine.fused.recent import Recent
from stream_vl_ros.engine.fused.vision import FusedVision

log = logging.getLogger(__name__)

# Pictures of several cameras; of small ones, chunks that did not fill up as well.
_GRAPHS = 8


class VisionGraph:
    """The tower over one grid of patches."""

    def __init__(self, vision: FusedVision, patches: Tensor, grid: Tensor, pool: Pool) -> None:
        """Captured for patches like these."""
        self._patches = torch.empty(patches.shape, dtype=vision.dtype, device=patches.device)
        self._patches.copy_(patches)
        # Once without capturing: kernels are compiled, and what depends on the grid alone is made.
        self._tokens = vision(self._patches, grid)
        self._graph = captured(lambda: self._tokens.copy_(vision(self._patches, grid)), pool)

    def run(self, patches: Tensor) -> Tensor:
        """The visual tokens, in memory of their own."""
        self._patches.copy_(patches)
        self._graph.replay()
        return self._tokens.clone()


class VisionGraphs:
    """The graphs of one tower. Used on the engine's thread."""

    def __init__(self, vision: FusedVision, pool: Pool) -> None:
        self._vision, self._pool = vision, pool
        self._graphs: Recent[tuple[int, ...], VisionGraph] = Recent(_GRAPHS)

    def __call__(self, patches: Tensor, grid: Tensor) -> Tensor:
        """As `ModelAdapter.embed_video`; as a graph if such patches came before, or were prepared for."""
        graph = self._graph(patches, grid, now=False)
        return self._vision(patches, grid) if graph is None else graph.run(patches)

    def prepare(self, patches: Tensor, grid: Tensor) -> None:
        """Make the graph for such patches before they come."""
        self._graph(patches, grid, now=True)

    def _graph(self, patches: Tensor, grid: Tensor, *, now: bool) -> VisionGraph | None:
        if self._vision.dtype not in (torch.float16, torch.bfloat16):
            return None
        key = tuple(grid.flatten().tolist())
        try:
            return self._graphs.get(key, lambda _: VisionGraph(self._vision, patches, grid, self._pool), now=now)
        except RuntimeError as error:  # memory ran out, above all
            log.warning("no graph for pictures of %s patches: %s", "x".join(map(str, key)), str(error).splitlines()[0])
            self._graphs.give_up(key)
            return None
