"""Pieces of picture that did not change need not be read again.

The idea of TimeChat-Online's differential token dropping (arXiv 2504.17343) in its cheapest form: pixels of a merged
visual token are compared with those that were read last at the same place. What is read keeps its position, so that
the model sees a sparse video rather than a wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_vl_ros.engine.frames import PatchGeometry


@dataclass(frozen=True, slots=True, eq=False)
class LastRead:
    """What was read last at every place of the picture.

    Attributes:
        pieces: normalised pixels, float32 (places, values).
        times_ns: when it was taken, on the time axis of its span, int64 (places,) on the CPU.
        numbers: of the frame that it was taken from, in the order of arrival, shaped alike.
    """

    pieces: Tensor
    times_ns: Tensor
    numbers: Tensor


@dataclass(frozen=True, slots=True)
class StillFilter:
    """Decides which pieces of new pictures are read.

    Attributes:
        threshold: mean difference in grey levels below which a piece counts as unchanged.
        refresh_ns: time after which it is read again all the same.
        geometry: how pictures are cut.
    """

    threshold: float
    refresh_ns: int
    geometry: PatchGeometry

    def changed(
        self, patches: Tensor, times_ns: list[int], numbers: list[int], last: LastRead | None, oldest: int
    ) -> tuple[Tensor, LastRead]:
        """Which pieces to read, and what was read last afterwards.

        Args:
            patches: of all pairs of frames, as `frames.to_patches` makes them.
            times_ns: of each pair.
            numbers: of the first frame of each pair.
            last: what was read before; None at the beginning of a video segment.
            oldest: pieces that were read from frames before this one are forgotten by now.

        Returns:
            bool (pairs, places) on the CPU, and the new state.
        """
        g = self.geometry
        pieces = patches.view(len(times_ns), -1, g.merge**2 * patches.shape[-1])
        grey = torch.tensor(g.std, device=patches.device)[:, None] / g.rescale
        scale = grey.expand(-1, g.temporal * g.patch**2).reshape(-1).repeat(g.merge**2)
        if last is None:
            # Older than everything, so that all of the first picture is read.
            never = torch.full((pieces.shape[1],), torch.iinfo(torch.int64).min // 2)
            last = LastRead(pieces[0], never, never)
        rows = []
        for now, time_ns, number in zip(pieces, times_ns, numbers, strict=True):
            difference = ((now - last.pieces).abs() * scale).mean(-1).cpu()
            stale = (last.numbers < oldest) | (time_ns - last.times_ns >= self.refresh_ns)
            keep = (difference >= self.threshold) | stale
            where = keep.to(now.device)[:, None]
            last = LastRead(
                torch.where(where, now, last.pieces),
                torch.where(keep, time_ns, last.times_ns),
                torch.where(keep, number, last.numbers),
            )
            rows.append(keep)
        return torch.stack(rows), last
