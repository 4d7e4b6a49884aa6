"""A stream's status as the page shows it, with rates over the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

_WINDOW = 6.0
_COUNTED = ("frames_received", "frames_ingested", "frames_skipped", "frames_dropped")
_SHOWN = (
    "state", "message", "image_topic", "publishers", *_COUNTED, "frames_waiting", "first_stamp", "last_stamp",
    "time_jumps_back", "time_gaps", "frame_width", "frame_height", "cache_tokens", "cache_bytes", "evicted_frames",
    "evicted_tokens", "chunks", "last_chunk_time", "mean_chunk_time", "questions_asked", "questions_answered",
    "questions_cancelled", "questions_refused", "questions_timed_out", "questions_active", "watches",
    "last_watch_time", "mean_watch_time", "model", "device", "dtype", "device_memory_used", "device_memory_total",
)  # fmt: skip


class Numbers:
    """What `~/status` of one stream told so far.

    Attributes:
        latest: the newest one, as it came; empty before the first.
        limits: parameters of the node that bound its memory, as far as they are known.
    """

    def __init__(self) -> None:
        self.latest: Mapping[str, Any] = {}
        self.limits: Mapping[str, Any] = {}
        self._past: deque[tuple[float, tuple[int, ...]]] = deque()

    def told(self, status: Mapping[str, Any], now: float) -> bool:
        """Take a status that came at this moment; true if the stream began anew since the one before."""
        counts = tuple(int(status[name]) for name in _COUNTED)
        anew = bool(self._past) and any(new < old for new, old in zip(counts, self._past[-1][1], strict=True))
        anew = anew or (bool(self.latest) and status["questions_asked"] < self.latest["questions_asked"])
        if anew:
            self._past.clear()
        self._past.append((now, counts))
        while len(self._past) > 2 and now - self._past[0][0] > _WINDOW:
            self._past.popleft()
        self.latest = status
        return anew

    def rate(self, name: str) -> float:
        """Frames per second of one of the counts, over the last seconds."""
        if len(self._past) < 2:
            return 0.0
        (begin, first), (end, last) = self._past[0], self._past[-1]
        i = _COUNTED.index(name)
        return (last[i] - first[i]) / (end - begin) if end > begin else 0.0

    def document(self) -> dict[str, Any]:
        """Plain values; stamps in seconds."""
        values = {name: self.latest[name] for name in _SHOWN}
        values["first_stamp"] /= 1e9
        values["last_stamp"] /= 1e9
        values["drops"] = [list(d) for d in zip(self.latest["drop_reasons"], self.latest["drop_counts"], strict=True)]
        values["refusals"] = [
            list(r) for r in zip(self.latest["refuse_reasons"], self.latest["refuse_counts"], strict=True)
        ]
        values["rates"] = {name.removeprefix("frames_"): round(self.rate(name), 2) for name in _COUNTED}
        values["limits"] = dict(self.limits)
        return values
