"""Drawing a batch's frames, as the vision tower's patches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stream_vl_ros.world import render
from training.batch import sizes
from training.forward import Packed
from training.grids import CANVAS, grids, patchify

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels, as the checkpoint's processor normalises them."""


class Painter:
    """Draws a batch's frames on the device and cuts them into patches."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.draw: Callable[..., render.Planes] = render.draw
        self.compress: Callable[..., render.Planes] = render.compress
        self.cut: Callable[..., Tensor] = self._patches
        self.size = sizes(device)
        self.take = grids(device).take
        self.dtype = dtype

    def compile(self) -> None:
        # Apart, since one graph of all of it computes the scene once per colour.
        self.draw = torch.compile(render.draw, dynamic=False)
        self.compress = torch.compile(render.compress, dynamic=False)
        self.cut = torch.compile(self._patches, dynamic=False)

    def _patches(self, planes: render.Planes, take: Tensor) -> Tensor:
        parts = [
            patchify(((plane - mean) / std).to(self.dtype)) for plane, mean, std in zip(planes, MEAN, STD, strict=True)
        ]
        take = take[..., None].expand(-1, -1, parts[0].shape[-1])
        return torch.cat([part.gather(1, take) for part in parts], -1)

    @torch.no_grad()
    def __call__(self, batch: Packed) -> Tensor:
        """Patches [P, SLOTS, 1176]."""
        count = batch.look.shape[0]
        noise = torch.randn(count, 3, *CANVAS, device=batch.look.device, dtype=self.dtype)
        size = self.size[batch.grid.repeat_interleave(2)]
        planes = self.draw(batch.things, batch.look, size, noise)
        planes = self.compress(planes, batch.look[:, 11].contiguous())
        return self.cut(planes, self.take[batch.grid])
