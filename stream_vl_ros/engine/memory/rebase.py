"""Moving positions back, so that an endless stream stays in the range that the model was trained with.

Rotary positions act by their differences alone, so shifting everything would change nothing. What grows on an endless
stream is the distance between the sink at the beginning and the present. Here the sink stays where it is, and what
is left of the video moves back in time until it follows the sink, as if the video had begun with its oldest frame:
keys are rotated by the difference (RoFormer, arXiv 2104.09864), values have no position. Rows and columns of the video
segment behind the sink are counted from the sink: those of the first segment stay, and those of a later one, once
nothing but the sink is in front of it, are moved there. Text, and segments behind text, move on all three axes.

In half precision every rotation costs a little accuracy, so this is done rarely, for a quarter of the range at least.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stream_vl_ros.engine.memory.ledger import Block, Ledger
from stream_vl_ros.engine.memory.whereabouts import whereabouts


@dataclass(frozen=True, slots=True)
class Rebase:
    """A move of everything behind the sink.

    Attributes:
        back: positions by which it moves.
        floor: first position behind the sink; no survivor falls below it.
        anchor: where rows and columns of the segment that follows the sink directly are counted from.
        oldest: where those of the oldest segment are counted from before the move, if no text is in front of it: it
            follows the sink from now on.
    """

    back: int
    floor: int
    anchor: int
    oldest: int | None

    def start(self, anchor: int) -> int:
        """Where rows and columns of a segment are counted from afterwards."""
        return self.anchor if anchor in (self.anchor, self.oldest) else anchor - self.back

    def deltas(self, ledger: Ledger, layer: int, heads: int) -> Tensor:
        """What positions change by: int64 (3, heads, tokens) on the CPU, for the whole cache in order."""
        sink = sum(b.tokens for b in ledger.pinned)
        where = whereabouts(ledger.survivors, ledger.loose, layer, heads)
        known = (*(ledger.survivors.blocks if ledger.survivors else ()), *ledger.loose)
        time = (where.positions - self.back).clamp(min=self.floor) - where.positions
        # Rows and columns move as far as time does, or, behind the sink, by a distance of their own.
        behind = [b.anchor is not None and b.anchor in (self.anchor, self.oldest) for b in known]
        shift = [0 if b.anchor is None else self.anchor - b.anchor for b in known]
        place = torch.where(torch.tensor(behind)[where.sources], torch.tensor(shift)[where.sources], time)
        return torch.cat((torch.zeros(3, heads, sink, dtype=torch.int64), torch.stack((time, place, place))), dim=2)

    def moved(self, ledger: Ledger) -> Ledger:
        """The contents afterwards."""
        survivors = ledger.survivors
        if survivors is not None:
            positions = tuple((p - self.back).clamp(min=self.floor) for p in survivors.positions)
            survivors = replace(survivors, blocks=tuple(map(self._moved, survivors.blocks)), positions=positions)
        evicted = replace(ledger.evicted, rebases=ledger.evicted.rebases + 1)
        return Ledger((*ledger.pinned, *map(self._moved, ledger.loose)), survivors, evicted)

    def _moved(self, block: Block) -> Block:
        anchor = None if block.anchor is None else self.start(block.anchor)
        return replace(block, position=block.position - self.back, anchor=anchor)


def plan_rebase(ledger: Ledger, newest: int, *, limit: int, side: int) -> Rebase | None:
    """How to bring positions back below `limit`; None if too little can be gained.

    Args:
        ledger: the contents.
        newest: largest position in use.
        limit: positions should stay below it.
        side: rows or columns of a picture, the larger number: text never comes before the end of its video's.
    """
    loose, last, floor = ledger.loose, ledger.pinned[-1], ledger.floor
    if not loose:
        return None
    anchor = floor if last.anchor is None else last.anchor
    back = loose[0].position - floor
    if loose[0].is_video:
        text = next((b.position for b in loose if not b.is_video), None)
        if text is not None:
            back = min(back, text - (anchor + side))
    if ledger.survivors is not None:
        # They are older than anything else: half of the range is left to them. What is older still falls to the floor
        # and is forgotten first.
        back = min(back, newest - (floor + limit) // 2)
    return Rebase(back, floor, anchor, loose[0].anchor) if back >= max(1, (limit - floor) // 4) else None
