"""Reads text and pictures into a KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.frames import Frame, to_patches
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.memory.ledger import Block
from stream_vl_ros.engine.memory.still import LastRead, StillFilter
from stream_vl_ros.engine.positions import VideoSegment, text_positions
from stream_vl_ros.engine.prompt import PromptPieces
from stream_vl_ros.engine.stream_state import StreamState
from stream_vl_ros.engine.units import NANOSECONDS


@dataclass(frozen=True, slots=True)
class VideoRead:
    """Frames that were read: the segment that they end in, what came into the cache, and the pictures."""

    segment: VideoSegment
    blocks: tuple[Block, ...]
    last_read: LastRead | None


class Reader:
    """Runs the model over what a stream takes in. It holds no state of the stream."""

    def __init__(self, model: LoadedModel, pieces: PromptPieces, config: StreamConfig) -> None:
        self._adapter = model.adapter
        self._tokenizer = model.tokenizer
        self._pieces = pieces
        self._config = config
        self._opening = len(pieces.start.tokens(model.tokenizer))  # where the first video segment starts
        refresh_ns = round(config.still_refresh * NANOSECONDS)
        self._still = StillFilter(config.still_threshold, refresh_ns, model.adapter.geometry)

    def text(self, ids: Sequence[int], start: int, cache: KVCache) -> Block:
        """Read text from position `start` on."""
        embeds = self._adapter.embed_text(torch.tensor([list(ids)], device=self._adapter.device))
        self._adapter.forward(embeds, text_positions(start, len(ids)), cache)
        return Block(len(ids), start)

    def video(self, frames: Sequence[Frame], size: tuple[int, int], state: StreamState, cache: KVCache) -> VideoRead:
        """Read frames, an odd last one doubled, on top of `cache`, which holds what the stream does at `state`.

        `size` are the height and width in pixels that frames are encoded at.
        """
        adapter, geometry = self._adapter, self._adapter.geometry
        blocks: list[Block] = []
        patches, grid = to_patches([f.pixels for f in frames], size, geometry, adapter.device)
        segment = state.segment
        if segment is None:
            start = state.position
            if state.answered:
                ids = self._pieces.reopen.tokens(self._tokenizer)
                blocks.append(self.text(ids, start, cache))
                start += len(ids)
            segment = VideoSegment(start, geometry.grid(*size), adapter.tokens_per_second)
        firsts = frames[:: geometry.temporal]
        grown, positions = segment.extend([f.time_ns for f in firsts])
        kept, last_read = self._changed(patches, firsts, state)
        if kept is None:
            embeds = adapter.embed_video(patches, grid)
            adapter.forward(embeds[None], positions, cache)
        elif kept.any():
            # The vision tower looks at one pair at a time, so those without any change need not pass through it.
            moving = kept.any(dim=1)
            patches = patches.view(len(firsts), -1, patches.shape[-1])[moving.to(patches.device)].flatten(0, 1)
            grid = grid.clone()
            grid[0, 0] = int(moving.sum())
            embeds = adapter.embed_video(patches, grid)[kept[moving].flatten().to(adapter.device)]
            adapter.forward(embeds[None], positions[:, kept.flatten()], cache)
        for i in range(len(firsts)):
            begin = i * geometry.temporal
            pair = frames[begin : begin + geometry.temporal]
            blocks.append(
                Block(
                    tokens=segment.tokens_per_patch if kept is None else int(kept[i].sum()),
                    position=int(positions[0, i * segment.tokens_per_patch]),
                    anchor=segment.start,
                    moves=segment.start != self._opening,
                    frames=len(pair),
                    first_ns=pair[0].stamp_ns,
                    last_ns=pair[-1].stamp_ns,
                    places=None if kept is None else kept[i].nonzero()[:, 0],
                    pinned=state.frames + begin < self._config.sink_frames,
                )
            )
        return VideoRead(grown, tuple(blocks), last_read)

    def _changed(
        self, patches: Tensor, firsts: Sequence[Frame], state: StreamState
    ) -> tuple[Tensor | None, LastRead | None]:
        """Which pieces of the pictures changed, (pairs, places); None for all of them."""
        if not self._config.still_threshold:
            return None, None
        blocks = state.ledger.loose
        oldest = next((b.first_ns for b in blocks if b.frames), firsts[0].stamp_ns if blocks else 0)
        return self._still.changed(patches, [f.stamp_ns for f in firsts], state.last_read, oldest)
