"""Capturing work on the GPU as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# What `torch.cuda.graph_pool_handle` returns: where graphs get their memory.
Pool = Any


def captured(work: Callable[[], object], pool: Pool) -> torch.cuda.CUDAGraph:
    """A graph of what `work` launches. Nothing is run.

    `work` must have run before: kernels cannot be compiled meanwhile.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        work()
    # Products got a workspace of 32 MB for the stream that captures, out of the pool. Given up, it serves the next
    # graph: they run one after the other.
    torch._C._cuda_clearCublasWorkspaces()
    return graph
