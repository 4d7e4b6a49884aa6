"""What to forget when the budget is used up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stream_vl_ros.engine.memory.ledger import BORDER_PLACE, TEXT_PLACE, Ledger, Survivors
from stream_vl_ros.engine.memory.whereabouts import Whereabouts, whereabouts

# Keys (1, kv_heads, tokens, head_dim) and their temporal positions (kv_heads, tokens) -> keys at time 0.
Unrotate = Callable[[Tensor, Tensor], Tensor]


class Forgetting(Protocol):
    """One round of forgetting: which tokens stay, and what the cache holds afterwards."""

    tokens: int

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> Tensor:
        """Indices of the tokens that stay, int64, (tokens,) for all heads alike or (kv_heads, tokens), increasing."""
        ...

    def ledger(self) -> Ledger:
        """The contents afterwards, once `keep` was asked for every layer."""
        ...


class EvictionRule(Protocol):
    """Decides what stays when room is needed."""

    def forget(self, ledger: Ledger, goal: int) -> Forgetting | None:
        """A round after which at most `goal` tokens are left; None if the rule cannot get there."""
        ...


class Window:
    """The beginning as attention sink, and the most recent span.

    StreamingLLM (arXiv 2309.17453) keeps the first tokens because attention leans on them whatever they say;
    StreamingVLM (arXiv 2510.09608) does so for video. Here the sink is the system turn and, if asked for, the first
    frames.
    """

    def forget(self, ledger: Ledger, goal: int) -> Forgetting | None:
        """See `EvictionRule.forget`."""
        gone, surplus = 0, ledger.tokens - goal
        loose = ledger.loose
        if ledger.survivors is not None and surplus > 0:
            # Another rule was in use before. What it left is older than everything else.
            surplus -= ledger.survivors.tokens
        # The newest block stays in any case: there is no stream without a present.
        while surplus > 0 and gone < len(loose) - 1:
            surplus -= loose[gone].tokens
            gone += 1
        return _Cut(ledger, gone) if surplus <= 0 else None


class _Cut:
    """Forgets the first `gone` loose blocks, and survivors if there are any."""

    def __init__(self, ledger: Ledger, gone: int) -> None:
        pinned, loose = ledger.pinned, ledger.loose
        old = ledger.survivors
        removed = sum(b.tokens for b in loose[:gone]) + (old.tokens if old else 0)
        forgotten = [*(old.blocks if old else ()), *loose[:gone]]
        self.tokens = ledger.tokens - removed
        self._begin = sum(b.tokens for b in pinned)
        self._removed = removed
        self._ledger = Ledger((*pinned, *loose[gone:]), None, ledger.evicted.more(removed, forgotten))

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> Tensor:
        """See `Forgetting.keep`."""
        index = torch.arange(self.tokens, device=keys.device)
        return index + self._removed * (index >= self._begin)

    def ledger(self) -> Ledger:
        """See `Forgetting.ledger`."""
        return self._ledger


@dataclass(frozen=True, slots=True)
class Importance:
    """Sink and recent span in full; in between, what recent frames do not repeat and what carries much.

    InfiniPot-V (arXiv 2506.15745): per layer and key-value head, a part of the tokens of the middle is kept for
    temporal-axis redundancy (TaR, the negative cosine similarity of a token's key to the recent keys at the same place
    of the picture), the rest for value norm (VaN, the length of a token's value). Survivors keep their positions. The
    paper compares keys as they are in the cache; `unrotate` takes their temporal rotation off first, so that time alone
    makes no key new.

    Attributes:
        recent_share: part of the goal, sink excluded, that is the recent span.
        novelty_share: part of the survivors that is chosen by TaR.
        unrotate: see above; None compares keys as they are.
    """

    recent_share: float
    novelty_share: float
    unrotate: Unrotate | None

    def forget(self, ledger: Ledger, goal: int) -> Forgetting | None:
        """See `EvictionRule.forget`."""
        room = goal - sum(b.tokens for b in ledger.pinned)
        recent, first = 0, len(ledger.loose)
        # The newest block stays in any case: there is no stream without a present.
        while first and (
            first == len(ledger.loose) or recent + ledger.loose[first - 1].tokens <= self.recent_share * room
        ):
            first -= 1
            recent += ledger.loose[first].tokens
        middle = sum(b.tokens for b in ledger.loose[:first]) + (ledger.survivors.tokens if ledger.survivors else 0)
        left = min(room - recent, middle)
        return _Compression(self, ledger, first, left) if 0 <= left < middle else None


class _Compression:
    """Keeps `left` tokens, per layer and head, of the survivors and the first `aged` loose blocks."""

    def __init__(self, rule: Importance, ledger: Ledger, aged: int, left: int) -> None:
        self._rule = rule
        self._before = ledger
        self._left = left
        pinned, loose = ledger.pinned, ledger.loose
        self._aged, self._recent = loose[:aged], loose[aged:]
        self._begin = sum(b.tokens for b in pinned)
        self._middle = sum(b.tokens for b in self._aged) + (ledger.survivors.tokens if ledger.survivors else 0)
        self.tokens = ledger.tokens - self._middle + left
        self._kept: list[Whereabouts] = []

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> Tensor:
        """See `Forgetting.keep`."""
        heads, length, device = keys.shape[1], keys.shape[2], keys.device
        where = whereabouts(self._before.survivors, self._aged, layer, heads)
        middle = slice(self._begin, self._begin + self._middle)
        novelty = self._novelty(keys[0, :, middle], keys[0, :, middle.stop :], where)
        weight = values[0, :, middle].float().norm(dim=-1)
        known = (*(self._before.survivors.blocks if self._before.survivors else ()), *self._aged)
        late = torch.tensor([b.position < self._before.floor for b in known])[where.sources].to(device)
        novelty, weight = novelty.masked_fill(late, -2), weight.masked_fill(late, -1)  # below all others
        first = round(self._left * self._rule.novelty_share)
        new = novelty.topk(first, dim=-1).indices
        heavy = weight.scatter(1, new, -torch.inf).topk(self._left - first, dim=-1).indices
        chosen = torch.cat((new, heavy), dim=-1).sort(dim=-1).values
        at = chosen.cpu()
        self._kept.append(Whereabouts(*(x.gather(1, at) for x in (where.sources, where.positions, where.places))))
        sink = torch.arange(self._begin, device=device).expand(heads, -1)
        tail = torch.arange(middle.stop, length, device=device).expand(heads, -1)
        return torch.cat((sink, chosen + self._begin, tail), dim=-1)

    def _novelty(self, old: Tensor, recent: Tensor, where: Whereabouts) -> Tensor:
        """Minus the mean cosine similarity to the recent keys at the same place.

        Text is always new; a border between videos never is, or a recording that loops would fill the memory with them.

        Args:
            old, recent: keys, (kv_heads, tokens, head_dim).
            where: the old ones are.

        Returns:
            float32 (kv_heads, old tokens).
        """
        heads = old.shape[0]
        now = whereabouts(None, self._recent, 0, heads)
        if self._rule.unrotate is not None:
            old = self._rule.unrotate(old[None], where.positions)[0]
            recent = self._rule.unrotate(recent[None], now.positions)[0]
        old, recent = (torch.nn.functional.normalize(x.float(), dim=-1) for x in (old, recent))
        there, here = ((p - BORDER_PLACE).to(old.device) for p in (where.places, now.places))
        size = 1 + int(torch.cat((there.flatten(), here.flatten())).max())
        # The mean of cosines with several keys is the product with the mean of their directions.
        sums = old.new_zeros(heads, size, old.shape[-1])
        counts = old.new_zeros(heads, size)
        sums.scatter_add_(1, here[..., None].expand_as(recent), recent)
        counts.scatter_add_(1, here, torch.ones_like(here, dtype=counts.dtype))
        means = sums / counts.clamp(min=1)[..., None]
        score = -(old * means.gather(1, there[..., None].expand_as(old))).sum(-1)
        score = score.masked_fill(there == TEXT_PLACE - BORDER_PLACE, torch.inf)
        return score.masked_fill(there == 0, -1)

    def ledger(self) -> Ledger:
        """See `Forgetting.ledger`."""
        was = self._before.survivors
        known = (*(was.blocks if was else ()), *self._aged)
        held = torch.zeros(len(known), dtype=torch.bool)
        for kept in self._kept:
            held[kept.sources.flatten()] = True
        number = held.cumsum(0) - 1
        survivors = Survivors(
            tuple(b for b, is_held in zip(known, held.tolist(), strict=True) if is_held),
            tuple(number[k.sources] for k in self._kept),
            tuple(k.positions for k in self._kept),
            tuple(k.places for k in self._kept),
        )
        gone = [b for b, is_held in zip(known, held.tolist(), strict=True) if not is_held]
        evicted = self._before.evicted.more(self._middle - self._left, gone)
        return Ledger((*self._before.pinned, *self._recent), survivors, evicted)
