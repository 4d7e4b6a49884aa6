"""The clock of a replay."""

from __future__ import annotations

import pytest

from stream_vl_ros.bag.schedule import Lateness, Schedule
from stream_vl_ros.errors import ConfigError


def test_due_is_counted_from_the_beginning() -> None:
    # A third of a nanosecond would be lost or won at every message if distances were summed up.
    schedule = Schedule(origin=1_000, begin=5_000_000, rate=3.0)
    assert schedule.due(1_000) == 5_000_000
    assert schedule.due(1_000 + 3_000_000_000) == 5_000_000 + 1_000_000_000
    assert schedule.due(1_000 + 1_000_000 * 100) == 5_000_000 + round(1_000_000 * 100 / 3)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_bad_rate(rate: float) -> None:
    with pytest.raises(ConfigError, match="rate"):
        Schedule(0, 0, rate)


def test_lateness() -> None:
    lateness = Lateness()
    for late in (-0.01, 0.0, 0.05, 0.25):
        lateness.add(late)
    assert (lateness.count, lateness.late, lateness.worst) == (4, 1, 0.25)
    assert lateness.mean == pytest.approx(0.075)
    assert "1 of 4 images" in str(lateness) and "--rate" in str(lateness)
