"""A step that is launched before anybody asked for it.

Whoever writes the best token each time feeds back what the device knows first. So the device goes on by itself, while
the host still reads the token, makes text of it and thinks about what to do next. What was guessed is a token's keys
and values in spare memory behind the cache's own, and its scores: if the next step turns out to be another one, nobody
ever looks at them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.cache import KVCache


@dataclass(frozen=True, slots=True)
class Ahead:
    """The step that a graph was told to make.

    Attributes:
        rows: of the graph.
        cache: what it is made on; not kept alive.
        changes: of the cache, when it was launched.
        tokens: what it was given, once they are known.
        starts: where they lie.
        slots: of its rows.
    """

    rows: int
    cache: weakref.ref[KVCache | BatchCache]
    changes: int
    tokens: Callable[[], list[int]]
    starts: tuple[int, ...]
    slots: tuple[int, ...]

    def is_it(
        self,
        rows: int,
        tokens: Sequence[int],
        starts: Sequence[int],
        cache: KVCache | BatchCache,
        slots: Sequence[int],
    ) -> bool:
        """Whether the pass that is running on a cache is the one."""
        return (
            rows == self.rows
            and cache is self.cache()
            and cache.changes == self.changes + 1  # the pass itself
            and tuple(starts) == self.starts
            and tuple(slots) == self.slots
            and list(tokens) == self.tokens()
        )


def on_host(values: Tensor, count: int) -> Callable[[], list[int]]:
    """The first of some whole numbers of a GPU, as a call that waits for them, and for nothing launched later."""
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def read() -> list[int]:
        copied.synchronize()
        return list(host[:count].tolist())

    return read
