"""Block-sparse attention over packed rows, for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from training.forward import Packed, text_block
from training.recipe import Recipe


class Flex:
    """Block-sparse attention for the packed mask; buffers keep the mask function one object."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe
        grid = (recipe.rows, recipe.length)
        self.clip, self.branch, self.cut = (torch.zeros(grid, dtype=torch.int32, device=device) for _ in range(3))
        clip, branch, cut = self.clip, self.branch, self.cut

        def keep(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            own = branch[b, q] == branch[b, k]
            trunk = (branch[b, k] == 0) & (k < cut[b, q])
            return (clip[b, q] == clip[b, k]) & (own | trunk) & (q >= k)

        self.keep = keep

    def mask(self, batch: Packed) -> BlockMask:
        self.clip.copy_(batch.clip)
        self.branch.copy_(batch.branch)
        self.cut.copy_(batch.cut)
        return create_block_mask(
            self.keep, self.recipe.rows, None, self.recipe.length, self.recipe.length,
            device=self.clip.device, _compile=True,
        )  # fmt: skip


def block(x: Tensor, cos: Tensor, sin: Tensor, mask: BlockMask, *w: Tensor) -> Tensor:
    """A text block under a block mask; made to be compiled."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
        assert isinstance(out, Tensor)
        return out

    return text_block(x, cos, sin, attend, *w)
