"""A clock that jumps back and ahead, and both, under every policy: counted, and the present is answered right."""

from __future__ import annotations

import pytest
from faulty import CHUNK, RIGHT, SECOND, Engine

from stream_vl_ros.engine import EngineRunner, RunnerConfig, StreamConfig, VideoStream


@pytest.mark.parametrize("policy", ["reset", "continue", "mark"])
@pytest.mark.parametrize(
    ("offsets", "back", "gaps"), [((-1000,), 1, 0), ((1000,), 0, 1), ((-1000, 1000), 1, 1), ((1000, -1000) * 3, 3, 3)]
)
def test_a_clock_that_jumps(embedded, scene, policy, offsets, back, gaps):
    stream = VideoStream(embedded, StreamConfig(target_fps=0, chunk_frames=CHUNK, on_time_jump=policy))
    with EngineRunner(stream, RunnerConfig(flush_after=60.0, queue_policy="block")) as runner:
        engine = Engine(runner, scene)
        engine.origin = 10_000 * SECOND
        engine.show()
        for offset in offsets:
            engine.origin += offset * SECOND
            status = engine.show()
            assert engine.ask() == RIGHT
        assert (status.jumps.back, status.jumps.gaps) == (back, gaps)
        assert (status.frames.ingested, status.frames.dropped) == (CHUNK * (1 + len(offsets)), 0)
        engine.well()
