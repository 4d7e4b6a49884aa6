"""What the demo finds out: frame counts, answers, and whether they add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stream_vl_ros.demo.questions import Question


@dataclass(frozen=True, slots=True)
class Status:
    """The node's last word, as far as the demo needs it; see `msg/StreamStatus.msg`."""

    state: str = ""
    message: str = ""
    model: str = ""
    device: str = ""
    dtype: str = ""
    service: bool = False
    received: int = 0
    ingested: int = 0
    skipped: int = 0
    dropped: int = 0
    waiting: int = 0
    drops: tuple[tuple[str, int], ...] = ()
    cache_tokens: int = 0
    cache_bytes: int = 0

    @staticmethod
    def from_event(event: dict[str, Any]) -> Status:
        return Status(
            state=event["state"],
            message=event["message"],
            model=event["model"],
            device=event["device"],
            dtype=event["dtype"],
            service=event["service"],
            received=event["frames_received"],
            ingested=event["frames_ingested"],
            skipped=event["frames_skipped"],
            dropped=event["frames_dropped"],
            waiting=event["frames_waiting"],
            drops=tuple(zip(event["drop_reasons"], event["drop_counts"], strict=True)),
            cache_tokens=event["cache_tokens"],
            cache_bytes=event["cache_bytes"],
        )

    @property
    def is_random(self) -> bool:
        """Whether the model is the seeded random one, whose answers mean nothing."""
        return "random" in self.model

    def frames(self) -> str:
        """The counters in words."""
        text = f"received {self.received}, ingested {self.ingested}, skipped {self.skipped}, dropped {self.dropped}"
        if self.drops:
            text += f" ({', '.join(f'{reason} {count}' for reason, count in self.drops)})"
        return f"{text}, waiting {self.waiting}"


@dataclass(slots=True)
class Asked:
    """One question that was asked, and its answer once there is one.

    Attributes:
        number: from 1, in the order of asking.
        at: seconds of the stream at which it was asked, from the first frame of the recording.
        moment: monotonic time of asking, seconds.
        answer: fields of the service's response; None while it is awaited.
        status: the node's counters when the answer came, up to a second old.
    """

    number: int
    question: Question
    at: float
    moment: float
    answer: dict[str, Any] | None = None
    status: Status = field(default_factory=Status)

    @property
    def right(self) -> bool | None:
        """Whether the answer is the expected one; None where none is known."""
        if self.answer is None or self.question.expected is None:
            return None
        return _plain(self.answer.get("answer", "")) == _plain(self.question.expected)


def _plain(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def problems(asked: list[Asked], published: int, status: Status) -> list[str]:
    """Everything that makes the run a failure, in words; empty if all is well."""
    out = []
    for item in asked:
        if item.answer is None:
            out.append(f"No answer came to {item.question.text!r}, asked at {item.at:.1f} s.")
        elif not item.answer["success"]:
            out.append(f"The question {item.question.text!r}, asked at {item.at:.1f} s, failed: {item.answer['error']}")
    if status.received != published:
        what = "were lost on the way" if status.received < published else "too many"
        out.append(
            f"{published} frames were published but the node received {status.received}: "
            f"{abs(published - status.received)} {what}."
        )
    parts = status.ingested + status.skipped + status.dropped + status.waiting
    if parts != status.received:
        out.append(f"The node's counters do not add up: {status.frames()}; the parts sum up to {parts}.")
    # A pair of frames makes one token grid, so the last one of an odd number stays behind.
    if status.waiting > 1:
        out.append(f"{status.waiting} frames are still waiting to be encoded; the model is too slow, or stuck.")
    return out
