"""Words within a panel, where they are legible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_vl_ros.report.svg import HALO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox
    from numpy.typing import NDArray

# Places that are tried along each side of a panel, and pixels to the next line.
STEPS, CLEAR = 24, 5

# x and y of the place that the words are about, and the words.
Note = tuple[float, float, str]


def place(axes: Axes, notes: Sequence[Note]) -> None:
    """Words as near to their places as is free of lines and of other words, within the panel."""
    if not notes:
        return
    # Where everything is, is not known before.
    axes.figure.figure.draw_without_rendering()
    paths = [line.get_path().transformed(line.get_transform()) for line in axes.lines]
    lines = [np.asarray(path.interpolated(50).vertices) for path in paths]
    panel = axes.bbox.padded(-CLEAR)
    busy: list[Bbox] = []
    for x, y, words in notes:
        note = axes.text(0, 0, words, fontsize=8, transform=axes.transAxes, zorder=5, gid=HALO, in_layout=False)
        at, box = axes.transData.transform((x, y)), note.get_window_extent()
        moves = {move: box.translated(*move) for move in _moves(box, panel)}
        best = min(
            moves,
            key=lambda m: (moves[m].count_overlaps(busy), _crossed(moves[m], lines), _distance(moves[m], at)),
        )
        busy.append(moves[best])
        note.set_position((best[0] / axes.bbox.width, best[1] / axes.bbox.height))


def _moves(box: Bbox, panel: Bbox) -> list[tuple[float, float]]:
    """From where a box is to everywhere in a panel, in steps."""
    across, up = (
        np.linspace(0, max(0.0, room), STEPS) for room in (panel.width - box.width, panel.height - box.height)
    )
    return [(panel.x0 - box.x0 + x, panel.y0 - box.y0 + y) for x in across.tolist() for y in up.tolist()]


def _crossed(box: Bbox, lines: Sequence[NDArray[Any]]) -> bool:
    return any(box.padded(CLEAR).count_contains(line) for line in lines)


def _distance(box: Bbox, at: NDArray[Any]) -> float:
    """From the nearest point of a box."""
    return float(np.hypot(*(at - np.clip(at, box.min, box.max))))
