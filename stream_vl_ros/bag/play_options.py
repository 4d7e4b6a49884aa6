"""How to replay a bag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from stream_vl_ros.errors import ConfigError

Stamps = Literal["recorded", "now"]
LoopStamps = Literal["grow", "repeat"]
CLOCK_HZ = 40.0
"""What `ros2 bag play --clock` publishes unless told otherwise."""
_FASTEST_CLOCK = 1000.0


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """How to replay.

    Attributes:
        to: recorded topic -> topic to publish on; those that are not in it keep their names.
        rate: recorded seconds per real second.
        start: seconds of the recording to leave out, counted from the first image of all topics that are replayed.
        duration: seconds of the recording to replay from there; None: to the end.
        loop: begin again at the end, until stopped.
        loop_stamps: "grow": header stamps and clock go on growing from round to round; "repeat": they are the recorded
            ones in every round, so that time jumps back.
        clock: ticks per real second of the recording's time on /clock; 0: none.
        reliable: DDS reliability; otherwise best effort.
        depth: how many images of a topic DDS keeps for subscribers that are behind.
        subscribers: how many must be there, on every topic, before the first image is sent.
        subscriber_timeout: seconds to wait for them.
        ack_timeout: seconds to wait for a reliable subscriber that confirms nothing.
        stamps: "recorded" leaves header stamps alone; "now" replaces them by the time of sending.
    """

    to: Mapping[str, str] = field(default_factory=dict)
    rate: float = 1.0
    start: float = 0.0
    duration: float | None = None
    loop: bool = False
    loop_stamps: LoopStamps = "grow"
    clock: float = 0.0
    reliable: bool = True
    depth: int = 100
    subscribers: int = 0
    subscriber_timeout: float = 30.0
    ack_timeout: float = 10.0
    stamps: Stamps = "recorded"

    def __post_init__(self) -> None:
        endless = float("inf")
        checks = (
            ("rate", 0 < self.rate < endless, "above 0, such as 2 for twice as fast"),
            ("start", 0 <= self.start < endless, "0 or more seconds"),
            ("duration", self.duration is None or 0 < self.duration < endless, "above 0 seconds"),
            ("loop_stamps", self.loop_stamps in {"grow", "repeat"}, "'grow' or 'repeat'"),
            ("clock", 0 <= self.clock <= _FASTEST_CLOCK, f"a frequency of up to {_FASTEST_CLOCK:.0f} Hz; 40 is usual"),
            ("depth", self.depth >= 1, "1 or more"),
            ("subscribers", self.subscribers >= 0, "0 or more"),
            ("subscriber_timeout", self.subscriber_timeout > 0, "above 0 seconds"),
            ("ack_timeout", self.ack_timeout > 0, "above 0 seconds"),
            ("stamps", self.stamps in {"recorded", "now"}, "'recorded' or 'now'"),
        )
        for name, good, rule in checks:
            if not good:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {rule}.")
        if self.stamps == "now" and (self.clock or self.loop_stamps == "repeat"):
            other = "clock publishes" if self.clock else "loop_stamps 'repeat' keeps"
            raise ConfigError(
                f"stamps is 'now', which replaces the recording's time by the computer's, but {other} the "
                "recording's time. Leave one of them out."
            )
        names = list(self.to.values())
        for name in names:
            if names.count(name) > 1:
                sources = " and ".join(old for old, new in self.to.items() if new == name)
                raise ConfigError(f"{sources} would both be published on {name!r}; give each a topic of its own.")
