"""Keeps a stream's KV cache within its budget, and its positions within their range."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.memory.budget import budget_in_tokens, check_budget
from stream_vl_ros.engine.memory.ledger import Ledger
from stream_vl_ros.engine.memory.rebase import Rebase, plan_rebase
from stream_vl_ros.engine.memory.rules import EvictionRule, Forgetting, Importance, Window
from stream_vl_ros.engine.segments import Pair
from stream_vl_ros.errors import FrameError

if TYPE_CHECKING:
    from stream_vl_ros.engine.adapters import ModelAdapter

# Part of the budget that is made free at a time, so that the cost of making room is shared by many chunks.
SLACK = 1 / 8


class MemoryKeeper:
    """Makes room before it is needed. It holds no state of the stream but its budget in tokens."""

    def __init__(self, adapter: ModelAdapter, config: StreamConfig) -> None:
        self._adapter = adapter
        self._config = config
        self._rule = self._make_rule()
        self.budget: int | None = None

    @property
    def active(self) -> bool:
        """Whether anything is ever forgotten."""
        return self._rule is not None

    def budget_for(self, size: tuple[int, int], opening: int) -> int | None:
        """The budget in tokens for pictures of this size in pixels, behind `opening` tokens of text; None without any.

        Raises `FrameError` (``budget_too_small``) if it cannot hold two chunks.
        """
        config, g = self._config, self._adapter.geometry
        per_pair = self._per_pair(size)
        rate = config.target_fps / g.temporal * per_pair
        budget = budget_in_tokens(config, self._adapter.cache_shape.bytes_per_token, opening, rate)
        if budget is not None:
            pairs = max(1, -(-config.chunk_frames // g.temporal)) * 2 + -(-config.sink_frames // g.temporal)
            check_budget(budget, opening + pairs * per_pair, size, config.sink_frames)
        return budget

    def check_space(self, tokens: int) -> None:
        """Without a rule: raise `FrameError` (``memory_full``) if so many tokens are more than the budget."""
        if not self.active and self.budget is not None and tokens > self.budget:
            raise FrameError(
                "memory_full",
                f"the memory budget of {self.budget} tokens is used up and nothing may be forgotten (eviction 'none'): "
                "the frame is dropped; choose an eviction rule, raise the budget, or call ~/reset",
            )

    @torch.inference_mode()
    def make_room(self, cache: KVCache, ledger: Ledger, new: int) -> Ledger:
        """Forget what the rule says until `new` more tokens fit into the budget. Returns the contents afterwards."""
        if self._rule is None or self.budget is None or cache.length + new <= self.budget:
            return ledger
        slack = int(self.budget * SLACK)
        # Less free room is better than none.
        for goal in (self.budget - new - slack, self.budget - new):
            forgetting = self._rule.forget(ledger, goal)
            if forgetting is not None:
                return self._apply(cache, forgetting)
        return ledger

    @torch.inference_mode()
    def shed(self, cache: KVCache, ledger: Ledger) -> Ledger:
        """Forget half of what is there, and give its memory back."""
        if self._rule is None:
            return ledger
        forgetting = self._rule.forget(ledger, cache.length // 2)
        return ledger if forgetting is None else self._apply(cache, forgetting, shrink=True)

    @torch.inference_mode()
    def move_back(self, cache: KVCache, ledger: Ledger, newest: int, side: int) -> tuple[Ledger, Rebase | None]:
        """Move positions back if `newest`, the largest one that is needed next, is out of range.

        Returns the contents afterwards, and how they were moved.
        """
        limit = self.position_limit
        if self._rule is None or newest < limit:
            return ledger, None
        rebase = plan_rebase(ledger, newest, limit=limit, side=side)
        if rebase is None:
            return ledger, None

        def rotated(layer: int, keys: Tensor, values: Tensor) -> Pair:
            deltas = rebase.deltas(ledger, layer, keys.shape[1])
            return self._adapter.rotate(keys, deltas), values.clone()

        cache.rewrite(cache.length, rotated)
        return rebase.moved(ledger), rebase

    @property
    def position_limit(self) -> int:
        """Temporal position that video stays below, so that questions and answers have room behind it."""
        whole = self._config.max_position or self._adapter.trained_positions
        return whole - min(1024, whole // 4)

    def _per_pair(self, size: tuple[int, int]) -> int:
        rows, columns = self._adapter.geometry.grid(*size)
        return rows * columns

    def _make_rule(self) -> EvictionRule | None:
        config = self._config
        if config.eviction == "window":
            return Window()
        if config.eviction == "importance":
            return Importance(config.recent_share, config.novelty_share, self._unrotate)
        return None

    def _unrotate(self, keys: Tensor, positions: Tensor) -> Tensor:
        nothing = torch.zeros_like(positions)
        return self._adapter.rotate(keys, torch.stack((-positions, nothing, nothing)))

    @staticmethod
    def _apply(cache: KVCache, forgetting: Forgetting, *, shrink: bool = False) -> Ledger:
        def kept(layer: int, keys: Tensor, values: Tensor) -> Pair:
            index = forgetting.keep(layer, keys, values)
            return _take(keys, index), _take(values, index)

        cache.rewrite(forgetting.tokens, kept, shrink=shrink)
        return forgetting.ledger()


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens of (1, kv_heads, tokens, head_dim) at indices (kept,) or (kv_heads, kept)."""
    if index.ndim == 1:
        return tokens.index_select(2, index)
    return tokens.gather(2, index[None, :, :, None].expand(-1, -1, -1, tokens.shape[-1]))
