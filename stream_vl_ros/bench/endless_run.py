"""Hours of the toy world through one stream of bounded memory."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from stream_vl_ros.bench.accuracy_score import is_right
from stream_vl_ros.bench.eviction_age import PRESENT
from stream_vl_ros.bench.held import resident_mib
from stream_vl_ros.bench.painted import SCENE_FRAMES, scene_count, scenes
from stream_vl_ros.engine import LoadedModel, StreamConfig, VideoStream
from stream_vl_ros.engine.units import MIB
from stream_vl_ros.world.questions import ask


@dataclass(frozen=True, slots=True)
class Sample:
    """One scene's length of the stream.

    Attributes:
        hours: of stream time at its end.
        chunk_ms: median time per chunk, milliseconds.
        busy_ms: processor time per chunk, mean, with all that adding frames takes, milliseconds. Other programs on
            the machine do not show in it.
        resident_mib: resident memory of the process.
        cache_mib: bytes that the KV cache holds.
        tokens: in the cache.
        position: largest temporal position in the cache.
        right, asked: questions about the present.
    """

    hours: float
    chunk_ms: float
    busy_ms: float
    resident_mib: float
    cache_mib: float
    tokens: int
    position: int
    right: int
    asked: int


@dataclass(slots=True)
class Endless:
    """What was measured, scene by scene."""

    samples: list[Sample] = field(default_factory=list)
    evicted_frames: int = 0
    rebases: int = 0

    def part(self, begin: float, end: float) -> list[Sample]:
        """The samples between two parts of the run, at least one."""
        n = len(self.samples)
        return self.samples[min(n - 1, int(begin * n)) : max(int(end * n), int(begin * n) + 1)]

    def chunk_ratio(self, which: str = "chunk_ms") -> float:
        """Time per chunk in the last 5 % of the run against the first 5 % after warm-up; of ``"busy_ms"`` likewise."""
        first, last = (statistics.median(getattr(s, which) for s in self.part(*p)) for p in ((0.05, 0.10), (0.95, 1.0)))
        return last / first

    def memory_ratio(self) -> float:
        """Resident memory at the end against that after warm-up, the first 5 %."""
        return self.samples[-1].resident_mib / self.part(0.05, 0.06)[0].resident_mib

    def memory_spread(self) -> float:
        """Largest resident memory after warm-up against the smallest."""
        later = [s.resident_mib for s in self.part(0.05, 1.0)]
        return max(later) / min(later)

    def accuracy(self, begin: float, end: float) -> float:
        """Percent right in a part of the run."""
        some = self.part(begin, end)
        return 100 * sum(s.right for s in some) / max(1, sum(s.asked for s in some))

    def to_json(self) -> dict[str, object]:
        return {
            "chunk time, last 5 % / first 5 % after warm-up": self.chunk_ratio(),
            "processor time of a chunk, last 5 % / first 5 % after warm-up": self.chunk_ratio("busy_ms"),
            "resident memory, end / after warm-up": self.memory_ratio(),
            "resident memory after warm-up, largest / smallest": self.memory_spread(),
            "accuracy, first and last tenth, %": [self.accuracy(0, 0.1), self.accuracy(0.9, 1)],
            "frames forgotten": self.evicted_frames,
            "rebases": self.rebases,
            "samples": [asdict(s) for s in self.samples],
        }


def run(
    model: LoadedModel, config: StreamConfig, *, hours: float, fps: float, seed: int, tick: Callable[[], None]
) -> Endless:
    """Show `hours` of stream time, asking about the present at the end of every scene."""
    stream, out = VideoStream(model, config), Endless()
    for number, (shown, pictures) in enumerate(scenes(seed, fps, scene_count(hours, fps))):
        start = number * SCENE_FRAMES
        busy = time.process_time()
        reports = stream.append(pictures, [(start + i) / fps for i in range(SCENE_FRAMES)])
        busy = time.process_time() - busy
        right = asked = 0
        for kind in PRESENT:
            rng = random.Random(f"endless/{seed}/{number}/{kind}")
            if (q := ask(rng, shown, SCENE_FRAMES - 1, kind)) is not None:
                right += is_right(q, stream.ask(q.text).text)
                asked += 1
        segment = stream.state.segment
        out.samples.append(
            Sample(
                hours=(start + SCENE_FRAMES) / fps / 3600,
                chunk_ms=1e3 * statistics.median(r.seconds for r in reports),
                busy_ms=1e3 * busy / len(reports),
                resident_mib=resident_mib(),
                cache_mib=stream.cache.memory_bytes / MIB,
                tokens=stream.cache.length,
                position=segment.last_time if segment is not None else stream.state.position,
                right=right,
                asked=asked,
            )
        )
        out.evicted_frames, out.rebases = stream.evicted.frames, stream.evicted.rebases
        tick()
    return out
