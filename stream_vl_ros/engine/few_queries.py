"""Few queries over many keys on a CPU: what a step of decoding does for each layer.

PyTorch's kernel multiplies blocks of queries with blocks of keys; with two queries to a key most of its time is not
spent on reading them. `few_queries.c` reads them as they lie, at the speed of memory. It is built with the package
where there is a C compiler; without it everything works as well, only slower over long contexts.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import stream_vl_ros

log = logging.getLogger(__name__)

# What few_queries.c is compiled for, and what its arrays have room for.
HEAD_DIMS = (64, 128)
MAX_QUERIES = 64
# With fewer PyTorch's kernel is as fast; nor is a piece of fewer worth a thread of its own.
MIN_TOKENS = 512


class _Job(ctypes.Structure):
    """`few_queries_job` of the C file."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "out", "lse")),
        *(
            (name, ctypes.c_int64)
            for name in ("heads", "queries", "tokens", "dim", "key_stride", "value_stride", "splits", "next")
        ),
    ]


@dataclass(frozen=True)
class Library:
    """The kernel for this processor.

    Attributes:
        lanes: floats in a register of it.
        attend: what each thread calls with a job, in C.
        join: what is called once they are done.
        start: PyTorch's own threads (`GOMP_parallel`, which every OpenMP runtime on Linux has): those of another pool
            would wait for cores that PyTorch's spin on. None if there are none: the calling one does it alone.
    """

    lanes: int
    attend: Any
    join: Any
    start: Any | None

    def most_queries(self, head_dim: int) -> int:
        """Beyond which the kernel has no room, or, with 8 lanes (`NARROW` in C), PyTorch's is as fast."""
        return MAX_QUERIES if self.lanes == 16 else head_dim // 8

    def run(self, job: _Job, threads: int) -> None:
        address = ctypes.addressof(job)
        if self.start is None or threads == 1:
            self.attend(address)
        else:
            self.start(self.attend, address, threads, 0)
        if job.splits > 1:
            self.join(address)


@functools.cache
def library() -> Library | None:
    """The compiled kernel; None if it was not built, or not for such a processor."""
    for folder in stream_vl_ros.__path__:
        for path in sorted(Path(folder, "engine").glob("_few_queries*.so")):
            try:
                built = ctypes.CDLL(str(path))
                lanes = built.few_queries_lanes()
                if not lanes:
                    return None
                attend, join = built[f"few_queries_attend_{lanes}"], built.few_queries_join
            except (OSError, AttributeError) as error:
                log.warning("%s cannot be used, long contexts will be slower: %s", path, error)
                continue
            for function in (attend, join):
                function.argtypes, function.restype = [ctypes.c_void_p], None
            return Library(lanes, attend, join, _threads())
    return None


def _threads() -> Any | None:
    try:
        start = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError) as error:
        log.info("PyTorch's threads cannot be used for attention, one does it alone: %s", error)
        return None
    start.argtypes, start.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return start


def suits(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> bool:
    """Whether `attend` can do this, and faster than PyTorch. Arguments as those of an `attention.Kernel`, on a CPU."""
    rows, _, queries, dim = query.shape
    return (
        not causal
        and rows == 1
        and key.shape[2] >= MIN_TOKENS
        and dim in HEAD_DIMS
        and all(x.dtype == torch.float32 for x in (query, key, value))
        and all(x.stride()[2:] == (dim, 1) for x in (key, value))
        and (built := library()) is not None
        and queries <= built.most_queries(dim)
    )


def attend(
    query: Tensor, key: Tensor, value: Tensor, scale: float, *, threads: int | None = None
) -> tuple[Tensor, Tensor]:
    """Softmax attention without a mask, for what `suits`.

    Args:
        query: float32, (1, heads, queries, head_dim).
        key: float32, (1, heads, tokens, head_dim), tokens one behind the other in memory; `value` likewise.
        scale: of the scores.
        threads: None for as many as PyTorch uses.

    Returns:
        The output, (1, heads, queries, head_dim), and the log-sum-exp of the scores, (1, heads, queries).
    """
    _, heads, queries, dim = query.shape
    tokens = key.shape[2]
    threads = threads or torch.get_num_threads()
    # Threads take heads, or pieces of them where heads do not come out even.
    splits = 1 if heads % threads == 0 else max(1, min(-(-2 * threads // heads), tokens // MIN_TOKENS))
    scaled = (query * scale).contiguous()
    out = torch.empty(heads, splits, queries, dim)
    lse = torch.empty(heads, splits, queries)
    job = _Job(
        *(x.data_ptr() for x in (scaled, key, value, out, lse)),
        heads=heads, queries=queries, tokens=tokens, dim=dim,
        key_stride=key.stride(1), value_stride=value.stride(1), splits=splits,
    )  # fmt: skip
    built = library()
    assert built is not None
    built.run(job, threads)
    return out[None, :, 0], lse[None, :, 0]
