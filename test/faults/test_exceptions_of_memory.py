"""An exception while memory is made free, or while positions are moved back: the chunk is lost, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from faulty import CHUNK, RIGHT, Engine, Fault, fault, forget_tracebacks, full_caches

from stream_vl_ros.engine import EngineRunner, RunnerConfig, StreamConfig, VideoStream
from stream_vl_ros.engine.adapters.qwen2_vl import Qwen25VLAdapter
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.memory import keeper
from stream_vl_ros.engine.memory.keeper import MemoryKeeper
from stream_vl_ros.engine.memory.rules import Window

ERROR = ValueError("out of the blue")
SAID = "ValueError: out of the blue"
BUDGET = 160
# Chunks after which the budget and the range of positions have both been used up.
PLENTY = 40


@pytest.fixture
def engine(embedded, scene) -> Iterator[Engine]:
    """One whose memory holds a few chunks, and whose positions are moved back again and again."""
    config = StreamConfig(
        target_fps=0, chunk_frames=CHUNK, eviction="window", budget_tokens=BUDGET, max_position=120, sink_frames=0
    )
    with EngineRunner(VideoStream(embedded, config), RunnerConfig(flush_after=60.0, queue_policy="block")) as runner:
        it = Engine(runner, scene)
        it.show(2 * CHUNK)
        assert it.ask() == RIGHT
        yield it


def until_raised(engine: Engine, raised: Fault) -> None:
    for _ in range(PLENTY):
        if raised.raised:
            return
        engine.show()
    pytest.fail("this stage was never reached")


def holds_together(engine: Engine) -> None:
    """What the stream knows of its memory is what is there, and nobody holds what was forgotten."""

    def look(stream: VideoStream) -> tuple[int, int, int]:
        return stream.cache.length, stream.state.ledger.tokens, stream.cache.pinned_bytes

    length, known, pinned = engine.runner.call(look).result(20)
    assert length == known <= BUDGET and pinned == 0


STAGES = {
    "making room": (MemoryKeeper, "make_room"),
    "choosing": (Window, "forget"),
    "forgetting": (KVCache, "rewrite"),
    "taking": (keeper, "_take"),
    "moving": (MemoryKeeper, "move_back"),
    "planning": (keeper, "plan_rebase"),
    "rotating": (Qwen25VLAdapter, "rotate"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_before_anything_is_overwritten(engine: Engine, stage, caplog):
    """The chunk is dropped with the reason, the memory is as it was before this step."""
    caches = full_caches()
    with fault(*STAGES[stage], ERROR) as raised:
        until_raised(engine, raised)
    status = engine.runner.status()
    assert status.frames.drops == {"encode_error": CHUNK}
    assert "4 frames could not be encoded" in status.problem and SAID in status.problem and SAID in caplog.text
    forget_tracebacks(caplog)
    holds_together(engine)
    engine.well()
    engine.show(10 * CHUNK)
    holds_together(engine)
    assert engine.ask() == RIGHT and full_caches() == caches
    assert engine.runner.status().frames.drops == {"encode_error": CHUNK}


HALFWAY = {"forgetting": (keeper, "_take", 3), "moving": (Qwen25VLAdapter, "rotate", 2)}


@pytest.mark.parametrize("stage", HALFWAY)
def test_halfway(engine: Engine, stage, caplog):
    """Some layers are overwritten already: the memory is given up as a whole, which is said, and begins anew."""
    owner, name, number = HALFWAY[stage]
    caches, calls = full_caches(), itertools.count()
    with fault(owner, name, ERROR, when=lambda *_: next(calls) == number) as raised:
        until_raised(engine, raised)
    status = engine.runner.status()
    assert sum(status.frames.drops.values()) == status.frames.dropped == CHUNK
    assert "the cache was lost while it was rewritten" in status.problem and SAID in status.problem
    forget_tracebacks(caplog)
    holds_together(engine)
    engine.well()
    assert full_caches() == caches
