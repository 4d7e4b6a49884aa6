"""The frames at the beginning of a video that are never forgotten: how many they are may change."""

from __future__ import annotations

from dataclasses import replace

import torch

from stream_vl_ros.engine.memory.ledger import Block, Ledger, Survivors
from stream_vl_ros.engine.memory.whereabouts import whereabouts


def pinned_to(ledger: Ledger, sink_frames: int) -> Ledger:
    """The contents with the first `sink_frames` frames of the video pinned, and no others.

    Frames of which a part was forgotten cannot be pinned, nor can those behind them or behind a remembered turn.
    """
    pinned, loose = ledger.pinned, ledger.loose
    kept, frames = 1, 0  # the first block is the beginning of the prompt
    while kept < len(pinned) and frames < sink_frames:
        frames += pinned[kept].frames
        kept += 1
    if kept < len(pinned):
        return _freed(ledger, pinned[:kept], tuple(replace(b, pinned=False) for b in pinned[kept:]))
    if ledger.survivors is not None:
        return ledger
    more, number = 0, ledger.frames + ledger.evicted.frames - sum(b.frames for b in loose)
    while more < len(loose) and number < sink_frames and (loose[more].is_video or loose[more].border):
        number += loose[more].frames
        more += 1
    return replace(ledger, blocks=(*pinned, *(replace(b, pinned=True) for b in loose[:more]), *loose[more:]))


def _freed(ledger: Ledger, kept: tuple[Block, ...], freed: tuple[Block, ...]) -> Ledger:
    was = ledger.survivors
    if was is None:
        return replace(ledger, blocks=(*kept, *freed, *ledger.loose))
    # In the cache they lie in front of the survivors: they become the oldest of those.
    known = [whereabouts(None, freed, layer, p.shape[0]) for layer, p in enumerate(was.positions)]
    survivors = Survivors(
        (*freed, *was.blocks),
        tuple(torch.cat((k.sources, s + len(freed)), dim=1) for k, s in zip(known, was.sources, strict=True)),
        tuple(torch.cat((k.positions, p), dim=1) for k, p in zip(known, was.positions, strict=True)),
        tuple(torch.cat((k.places, p), dim=1) for k, p in zip(known, was.places, strict=True)),
    )
    return replace(ledger, blocks=(*kept, *ledger.loose), survivors=survivors)
