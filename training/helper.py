"""The auxiliary heads: supervision of every frame pair, dropped after training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training import shape
from training.episode import MEMORY_OBJECTS, MEMORY_TIMES, OBJECT_CLASSES, SECONDS
from training.forward import Packed


class Helper(nn.Module):
    """Auxiliary heads, dropped after training: what a cell shows, what a frame pair remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(shape.HIDDEN, OBJECT_CLASSES)
        self.memory = nn.Linear(shape.HIDDEN, MEMORY_OBJECTS * OBJECT_CLASSES + MEMORY_TIMES * SECONDS)

    def forward(self, visual: Tensor, pairs: Tensor, batch: Packed) -> Tensor:
        """visual [P, C, D], pairs [P, D]; the sum of the mean cross entropies."""
        cell = self.cell(visual.flatten(0, 1).float())
        loss = F.cross_entropy(cell, batch.cell_label.flatten(), ignore_index=-100)
        memory = self.memory(pairs.float())
        cutoff = MEMORY_OBJECTS * OBJECT_CLASSES
        names = memory[:, :cutoff].reshape(-1, OBJECT_CLASSES)
        times = memory[:, cutoff:].reshape(-1, SECONDS)
        loss = loss + F.cross_entropy(names, batch.memory_label[:, :MEMORY_OBJECTS].flatten(), ignore_index=-100)
        return loss + F.cross_entropy(times, batch.memory_label[:, MEMORY_OBJECTS:].flatten(), ignore_index=-100)
