"""What the KV cache holds, block by block, and what was forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

# The places of tokens that belong to no picture: of text, and of the border between two spans of video.
TEXT_PLACE = -1
BORDER_PLACE = -2


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A run of tokens that came together: a stretch of text, or the visual tokens of one pair of frames.

    Attributes:
        tokens: how many; 0 for a pair in which nothing had changed.
        position: M-RoPE position of the first token of text; temporal position of a pair.
        anchor: start of the pair's video segment, from which its rows and columns are counted; None for text.
        frames: frames in the pair.
        first_ns, last_ns: stamps of its first and last frame.
        places: which of the picture's merged tokens they are, row by row, int64 (tokens,) on the CPU; None for all.
        pinned: never forgotten.
        border: text that says no more than that one video ends and the next one begins.
    """

    tokens: int
    position: int
    anchor: int | None = None
    frames: int = 0
    first_ns: int = 0
    last_ns: int = 0
    places: Tensor | None = None
    pinned: bool = False
    border: bool = False

    @property
    def is_video(self) -> bool:
        return self.anchor is not None


@dataclass(frozen=True, slots=True, eq=False)
class Survivors:
    """What is left of blocks of which every layer and head kept tokens of its own choice.

    Attributes:
        blocks: where they come from, in order; of each at least one token is left in some layer and head. Those that
            positions were moved back too far for are below the ledger's floor; their tokens are at the floor.
        sources: index into `blocks`, per layer int64 (kv_heads, tokens) on the CPU.
        positions: temporal positions, shaped alike.
        places: as in `Block`, `TEXT_PLACE` and `BORDER_PLACE` for text, shaped alike.
    """

    blocks: tuple[Block, ...]
    sources: tuple[Tensor, ...]
    positions: tuple[Tensor, ...]
    places: tuple[Tensor, ...]

    @property
    def tokens(self) -> int:
        return self.positions[0].shape[1]

    @property
    def frames(self) -> int:
        return sum(b.frames for b in self.blocks)


@dataclass(frozen=True, slots=True)
class Evicted:
    """What was forgotten so far.

    Attributes:
        tokens: tokens per layer.
        frames: frames of which nothing is left.
        first_ns, last_ns: the smallest and the largest stamp of those frames; 0 without any. After a jump back in time
            frames with stamps in between may still be there.
        times: how often room was made.
        rebases: how often positions were moved back.
    """

    tokens: int = 0
    frames: int = 0
    first_ns: int = 0
    last_ns: int = 0
    times: int = 0
    rebases: int = 0

    def more(self, tokens: int, blocks: list[Block]) -> Evicted:
        """With `tokens` more, and the frames of `blocks`."""
        video = [b for b in blocks if b.frames]
        return replace(
            self,
            tokens=self.tokens + tokens,
            frames=self.frames + sum(b.frames for b in video),
            first_ns=min([b.first_ns for b in video] + [self.first_ns] * bool(self.frames), default=0),
            last_ns=max([b.last_ns for b in video] + [self.last_ns] * bool(self.frames), default=0),
            times=self.times + 1,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """The contents of a cache in order: pinned blocks, survivors, all other blocks."""

    blocks: tuple[Block, ...] = ()
    survivors: Survivors | None = None
    evicted: Evicted = Evicted()

    @property
    def tokens(self) -> int:
        return sum(b.tokens for b in self.blocks) + (self.survivors.tokens if self.survivors else 0)

    @property
    def pinned(self) -> tuple[Block, ...]:
        """The blocks at the beginning that are never forgotten."""
        count = next((i for i, b in enumerate(self.blocks) if not b.pinned), len(self.blocks))
        return self.blocks[:count]

    @property
    def loose(self) -> tuple[Block, ...]:
        """The blocks behind them."""
        return self.blocks[len(self.pinned) :]

    @property
    def floor(self) -> int:
        """First position behind the pinned blocks."""
        last = self.pinned[-1]
        return last.position + (1 if last.is_video else last.tokens)

    @property
    def frames(self) -> int:
        """Frames of which something is left."""
        return sum(b.frames for b in self.blocks) + (self.survivors.frames if self.survivors else 0)

    @property
    def first_ns(self) -> int | None:
        """Stamp of the first frame, in the order of arrival, of which something is left; None without any."""
        survivors = self.survivors.blocks if self.survivors else ()
        return next((b.first_ns for b in (*self.pinned, *survivors, *self.loose) if b.frames), None)

    def grown(self, *blocks: Block) -> Ledger:
        """With more blocks at the end."""
        return replace(self, blocks=(*self.blocks, *blocks))
