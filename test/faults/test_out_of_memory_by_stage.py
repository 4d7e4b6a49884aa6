"""Memory runs out in each stage of a chunk and of an answer: once, and until it is there again."""

from __future__ import annotations

import pytest
import torch
from faulty import CHUNK, QUESTION, RIGHT, Engine, fault

from stream_vl_ros.engine import Question
from stream_vl_ros.engine.adapters.qwen2_vl import Qwen25VLAdapter
from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.errors import MemoryFullError

ALWAYS = 10**6
ERROR = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def of_batch(adapter: object, ids: object, starts: object, cache: object) -> bool:
    return isinstance(cache, BatchCache)


def of_question(*args: object) -> bool:
    return not of_batch(*args)


CHUNKS = {
    "vision": (Qwen25VLAdapter, "embed_video", None),
    "language": (Qwen25VLAdapter, "read", None),
    "cache": (KVCache, "update", None),
}
ANSWERS = {
    "fork": (KVCache, "fork", None),
    "prefill": (Qwen25VLAdapter, "read_text", of_question),
    "decode": (Qwen25VLAdapter, "read_text", of_batch),
    "join": (BatchCache, "join", None),
}


def spoilt(place: tuple, times: int):
    owner, name, when = place
    return fault(owner, name, ERROR, times, **({"when": when} if when else {}))


@pytest.mark.parametrize("stage", CHUNKS)
def test_once_in_a_chunk_is_made_room_for(engine: Engine, stage):
    with spoilt(CHUNKS[stage], 1) as raised:
        status = engine.show()
    assert raised.raised == 1
    assert (status.frames.ingested, status.frames.dropped) == (3 * CHUNK, 0)
    engine.well()


@pytest.mark.parametrize("stage", CHUNKS)
def test_again_and_again_in_a_chunk_drops_it_with_the_numbers(engine: Engine, stage):
    signature = engine.runner.call(lambda stream: stream.signature())
    with spoilt(CHUNKS[stage], ALWAYS) as raised:
        status = engine.show()
    assert raised.raised == 2, "tried once more, not for ever"
    assert status.frames.drops == {"out_of_memory": CHUNK} and status.frames.ingested == 2 * CHUNK
    for word in ("4 frames could not be encoded", "out of memory", "the video takes", "MiB available", "2.00 GiB"):
        assert word in status.problem
    assert engine.runner.call(lambda stream: stream.signature()).result(20) == signature.result(20)
    engine.well()


@pytest.mark.parametrize("stage", ANSWERS)
def test_once_in_an_answer_is_made_room_for(engine: Engine, stage):
    with spoilt(ANSWERS[stage], 1) as raised:
        assert engine.ask() == RIGHT
    assert raised.raised == 1
    engine.well()


@pytest.mark.parametrize("stage", ANSWERS)
def test_again_and_again_in_an_answer_refuses_it_with_the_numbers(engine: Engine, stage):
    signature = engine.runner.call(lambda stream: stream.signature())
    with spoilt(ANSWERS[stage], ALWAYS), pytest.raises(MemoryFullError) as refused:
        engine.ask()
    for word in ("out of memory", "the video takes", "MiB available", "2.00 GiB"):
        assert word in str(refused.value)
    assert engine.runner.status().questions.refusals == {"out_of_memory": 1}
    assert engine.runner.call(lambda stream: stream.signature()).result(20) == signature.result(20)
    assert engine.runner.call(lambda _: engine.runner._answering.memory_bytes).result(20) == 0, "nothing is left over"
    engine.well()


def test_a_batch_that_runs_out_takes_nobody_along_that_fits(engine: Engine):
    """Four answers do not fit together, each of them does."""
    with fault(BatchCache, "only", ERROR, ALWAYS, when=lambda _, rows: len(rows) > 1):
        asked = [engine.runner.ask(question) for question in (QUESTION, Question("How many objects are there?")) * 2]
        answers = [future.result(30).text for future in asked]
    assert answers == [RIGHT, "1", RIGHT, "1"]
    engine.well()
