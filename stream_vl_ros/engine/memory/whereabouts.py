"""Where each token of the memory is: in time, and in its picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_vl_ros.engine.memory.ledger import TEXT_PLACE, Block, Survivors


@dataclass(frozen=True, slots=True, eq=False)
class Whereabouts:
    """Of the tokens of one layer, in order, each (kv_heads, tokens), on the CPU.

    Attributes:
        positions: temporal positions, int64.
        places: merged token of the picture, row by row, `TEXT_PLACE` for text, int64.
        moves: whether rows and columns move along when time is moved back, bool.
    """

    positions: Tensor
    places: Tensor
    moves: Tensor


def whereabouts(survivors: Survivors | None, blocks: tuple[Block, ...], layer: int, heads: int) -> Whereabouts:
    """Where survivors, of one layer, and blocks are."""
    positions, places, moves = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)], []
    for block in blocks:
        if block.is_video:
            positions.append(torch.full((block.tokens,), block.position))
            places.append(torch.arange(block.tokens) if block.places is None else block.places)
        else:
            positions.append(torch.arange(block.position, block.position + block.tokens))
            places.append(torch.full((block.tokens,), TEXT_PLACE))
        moves.append(torch.full((block.tokens,), block.moves))
    alike = [torch.cat(positions), torch.cat(places), torch.cat([torch.empty(0, dtype=torch.bool), *moves])]
    alike = [x.expand(heads, -1) for x in alike]
    if survivors is not None:
        was = survivors.positions[layer], survivors.places[layer], survivors.moves[layer]
        alike = [torch.cat((old, new), dim=1) for old, new in zip(was, alike, strict=True)]
    return Whereabouts(*alike)
