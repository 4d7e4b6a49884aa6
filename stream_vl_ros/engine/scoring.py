"""The options of many questions, scored in one forward pass over a prefix that is read once.

A question and its options form a tree: the question is the stem, each option a branch. A tree is one row of a batch,
stem first, then one branch behind the other, padded to the right. Each token sees the shared prefix, its stem and its
own branch, and stands at the position that it has in a text of its own. Nothing is read twice, neither video nor
questions, and every option gets the log-probability that it has alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stream_vl_ros.engine.attention import KeyValueParts
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.fork import Fork

# Tokens of one pass, padding included: bounds the scores of attention among a tree's own tokens.
PASS_TOKENS = 1024
# Positions whose scores over the whole vocabulary are in memory at once.
_LOGIT_ROWS = 128


@dataclass(frozen=True, slots=True)
class Tree:
    """Token ids of a question, and of each of its options, at least one each."""

    stem: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Tokens that are fed to the model: an option's last one is only looked up."""
        return len(self.stem) + sum(len(o) - 1 for o in self.options)


def passes(trees: Sequence[Tree], tokens: int = PASS_TOKENS) -> list[list[int]]:
    """Indices of trees that go through the model together, so that no pass has more than `tokens` with its padding.

    Trees of similar lengths go together; one that is longer than that goes alone.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(trees)), key=lambda i: trees[i].length):
        if groups and (len(groups[-1]) + 1) * trees[index].length <= tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


class TreeBatch:
    """Trees laid out for one pass. Made once, it scores any number of forks."""

    def __init__(self, trees: Sequence[Tree], device: torch.device) -> None:
        """Lay out the trees for a model on `device`."""
        self._trees, self._device = trees, device
        self._options = [len(t.options) for t in trees]
        width = max(t.length for t in trees)
        ids = torch.zeros(len(trees), width, dtype=torch.int64)
        offsets = torch.zeros(len(trees), width, dtype=torch.int64)  # positions, from the end of the prefix on
        branches = torch.full((len(trees), width), -1)  # 0 the stem, 1.. its options, -1 padding
        places: list[tuple[int, int]] = []  # row and column of what is looked at: ends of stems, tokens of branches
        lookups: list[tuple[int, int, int]] = []  # index in `places`, token whose score is wanted, option of all
        option_of_all = 0
        for row, tree in enumerate(trees):
            stem = len(tree.stem)
            ids[row, :stem] = torch.tensor(tree.stem)
            offsets[row, :stem] = torch.arange(stem)
            branches[row, :stem] = 0
            end_of_stem, column = len(places), stem
            places.append((row, stem - 1))
            for number, option in enumerate(tree.options, 1):
                lookups.append((end_of_stem, option[0], option_of_all))
                end = column + len(option) - 1
                ids[row, column:end] = torch.tensor(option[:-1], dtype=torch.int64)
                offsets[row, column:end] = stem + torch.arange(len(option) - 1)
                branches[row, column:end] = number
                for i, token in enumerate(option[1:]):
                    lookups.append((len(places), token, option_of_all))
                    places.append((row, column + i))
                column, option_of_all = end, option_of_all + 1
        lookups.sort()
        later = torch.ones(width, width, dtype=torch.bool).triu(1)
        other = (branches[:, None, :] != branches[:, :, None]) & (branches[:, None, :] != 0)
        self._ids = ids.to(device)
        self._offsets = offsets
        self._hidden = (later | other).to(device)  # (rows, tokens, tokens): what a token does not see of its own row
        self._rows, self._columns = torch.tensor(places, device=device).T
        self._at, self._tokens, self._owners = torch.tensor(lookups).T.contiguous()
        self._on_device = self._at.to(device), self._tokens.to(device)

    def only(self, row: int) -> TreeBatch:
        """One of its trees alone."""
        return TreeBatch([self._trees[row]], self._device)

    @torch.inference_mode()
    def score(self, fork: Fork) -> list[tuple[float, ...]]:
        """Per tree, the log-probability of each of its options, in nats. The fork does not change."""
        adapter = fork.adapter
        cache = _TreeCache(fork.cache, self._hidden)
        try:
            positions = (fork.position + self._offsets).expand(3, -1, -1)
            states = adapter.forward(adapter.embed_text(self._ids), positions, cache)[self._rows, self._columns]
        finally:
            cache.discard()
        steps = []
        for first, last, lookups in self._blocks():
            logits = adapter.logits(states[first:last])
            at, tokens = (x[lookups] for x in self._on_device)
            steps.append(logits[at - first, tokens] - torch.logsumexp(logits, dim=-1)[at - first])
        sums = torch.zeros(sum(self._options), dtype=torch.float64)
        sums.index_add_(0, self._owners, torch.cat(steps).cpu().double())
        return [tuple(part.tolist()) for part in torch.split(sums, self._options)]

    def _blocks(self) -> Iterator[tuple[int, int, slice]]:
        """First and last place of each block, and the lookups that belong to it."""
        for first in range(0, len(self._rows), _LOGIT_ROWS):
            last = min(first + _LOGIT_ROWS, len(self._rows))
            begin, end = torch.searchsorted(self._at, torch.tensor([first, last])).tolist()
            yield first, last, slice(begin, end)


class _TreeCache(KVCache):
    """On top of what a fork holds, one row per tree, for one pass."""

    def __init__(self, cache: KVCache, hidden: Tensor) -> None:
        rows, tokens, _ = hidden.shape
        super().__init__(cache.shape, base=cache.fork().shared, rows=rows, initial_capacity=tokens)
        self._hidden = hidden

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[KeyValueParts, KeyValueParts]:
        parts, _ = super().update(key_states, value_states, layer_idx)
        parts = replace(parts, hidden=self._hidden)
        return parts, parts
