"""Where each token of the memory is: in time, and in its picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_vl_ros.engine.memory.ledger import BORDER_PLACE, TEXT_PLACE, Block, Survivors


@dataclass(frozen=True, slots=True, eq=False)
class Whereabouts:
    """Of the tokens of one layer, in order, each int64 (kv_heads, tokens), on the CPU.

    Attributes:
        sources: the block that they came with: survivors' ones are counted first, then the others.
        positions: temporal positions.
        places: merged token of the picture, row by row; `TEXT_PLACE` and `BORDER_PLACE` for text.
    """

    sources: Tensor
    positions: Tensor
    places: Tensor


def whereabouts(survivors: Survivors | None, blocks: tuple[Block, ...], layer: int, heads: int) -> Whereabouts:
    """Where survivors, of one layer, and blocks are."""
    nothing = torch.empty(0, dtype=torch.int64)
    sources, positions, places = [nothing], [nothing], [nothing]
    for number, block in enumerate(blocks, len(survivors.blocks) if survivors else 0):
        sources.append(torch.full((block.tokens,), number))
        if block.is_video:
            positions.append(torch.full((block.tokens,), block.position))
            places.append(torch.arange(block.tokens) if block.places is None else block.places)
        else:
            positions.append(torch.arange(block.position, block.position + block.tokens))
            places.append(torch.full((block.tokens,), BORDER_PLACE if block.border else TEXT_PLACE))
    alike = [torch.cat(x).expand(heads, -1) for x in (sources, positions, places)]
    if survivors is not None:
        was = survivors.sources[layer], survivors.positions[layer], survivors.places[layer]
        alike = [torch.cat((old, new), dim=1) for old, new in zip(was, alike, strict=True)]
    return Whereabouts(*alike)
