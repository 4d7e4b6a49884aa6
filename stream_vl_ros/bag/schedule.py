"""When each recorded message is due, against the monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_vl_ros.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Schedule:
    """Maps log times to moments of the monotonic clock.

    Every moment is computed from the beginning, never from the message before, so that delays do not add up.

    Attributes:
        origin: log time that is due at `begin`, nanoseconds.
        begin: moment of the monotonic clock, nanoseconds.
        rate: recorded seconds per real second, above 0.
    """

    origin: int
    begin: int
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ConfigError(f"rate is {self.rate}; it must be above 0, such as 2.0 for twice as fast.")

    def due(self, log_time: int) -> int:
        """Moment at which the message of this log time is due, nanoseconds."""
        return self.begin + round((log_time - self.origin) / self.rate)

    def at(self, moment: int) -> int:
        """Log time that is due at this moment of the monotonic clock, nanoseconds."""
        return self.origin + round((moment - self.begin) * self.rate)


@dataclass(slots=True)
class Lateness:
    """How late messages were sent, seconds. More than `tolerance` counts as late."""

    tolerance: float = 0.1
    count: int = 0
    late: int = 0
    worst: float = 0.0
    total: float = field(default=0.0, repr=False)

    def add(self, seconds: float) -> None:
        """Take note of one message; sent early counts as on time."""
        seconds = max(0.0, seconds)
        self.count += 1
        self.total += seconds
        self.late += seconds > self.tolerance
        self.worst = max(self.worst, seconds)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    def __str__(self) -> str:
        if not self.late:
            return f"on time (at worst {self.worst * 1e3:.0f} ms late)"
        return (
            f"{self.late} of {self.count} images more than {self.tolerance * 1e3:.0f} ms late, "
            f"at worst {self.worst:.2f} s; replay slower with --rate"
        )
