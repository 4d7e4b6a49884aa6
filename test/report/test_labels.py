"""Words in a panel: off its lines, off each other, and within it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from stream_vl_ros.report import labels

RISING = [(0.0, 0.0), (1.0, 1.0)]
CORNER = [(0.0, 100.0), (0.5, 100.0), (1.0, 0.0)]


def panel(*lines: list[tuple[float, float]]) -> Axes:
    axes = Figure(figsize=(4, 2.6), layout="constrained").add_subplot()
    for line in lines:
        axes.plot(*zip(*line, strict=True))
    return axes


def placed(axes: Axes, notes: list[labels.Note]) -> list[Bbox]:
    """Where the words are when the figure is drawn as the reports are."""
    labels.place(axes, notes)
    axes.figure.figure.set_dpi(72)
    axes.figure.figure.draw_without_rendering()
    words = {words for _, _, words in notes}
    return [t.get_window_extent() for t in axes.findobj(Text) if t.get_text() in words]


@pytest.mark.parametrize("at", [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_words_are_within_the_panel_and_off_the_line(at):
    axes = panel(RISING)
    (box,) = placed(axes, [(*at, "out of memory at 48 frames\nwith a cap of 384 MiB")])
    assert all(axes.bbox.contains(*corner) for corner in box.corners())
    along = axes.transData.transform(np.linspace(0, 1, 500)[:, None].repeat(2, axis=1))
    assert box.count_contains(along) == 0


def test_words_are_next_to_their_place():
    axes = panel(CORNER)
    (box,) = placed(axes, [(1.0, 0.0, "here")])
    x, y = axes.transData.transform((1.0, 0.0))
    assert abs(box.x1 - x) < 30 and abs(box.y0 - y) < 30


def test_words_are_off_each_other():
    boxes = placed(panel(RISING), [(0.5, 0.5, f"word {i} of a number") for i in range(5)])
    assert len(boxes) == 5
    for a, b in itertools.combinations(boxes, 2):
        assert not a.overlaps(b)


def test_words_that_fit_nowhere_are_shown_all_the_same():
    (box,) = placed(panel(RISING), [(0.5, 0.5, "word " * 60)])
    assert np.isfinite(box.extents).all()
