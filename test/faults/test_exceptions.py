"""An exception in each stage, once: counted with its reason, said, and over with the next frame or question."""

from __future__ import annotations

import logging

import pytest
from faulty import CHUNK, QUESTION, RIGHT, Engine, fault, forget_tracebacks, full_caches

from stream_vl_ros.engine import Question, StreamConfig, Watch, visual
from stream_vl_ros.engine import stream as stream_module
from stream_vl_ros.engine.adapters.qwen2_vl import Qwen25VLAdapter
from stream_vl_ros.engine.answer_text import AnswerText
from stream_vl_ros.engine.batch import DecodeBatch
from stream_vl_ros.engine.batch_cache import BatchCache
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.constrained import Constraint
from stream_vl_ros.engine.dialogue import Dialogues
from stream_vl_ros.engine.fork import Fork
from stream_vl_ros.engine.generation import Generation
from stream_vl_ros.engine.memories import Memories
from stream_vl_ros.engine.memory.keeper import MemoryKeeper
from stream_vl_ros.engine.memory.ledger import Ledger
from stream_vl_ros.engine.reader import Reader
from stream_vl_ros.engine.scoring import TreeBatch
from stream_vl_ros.engine.selection import TokenChooser
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.watches import Watches
from stream_vl_ros.engine.watching import Watching
from stream_vl_ros.errors import RequestError

ERROR = ValueError("out of the blue")
SAID = "ValueError: out of the blue"


def test_a_picture_that_raises(engine: Engine):
    def broken():
        raise ERROR

    engine.runner.push(broken, engine.shown * 500_000_000)
    status = engine.show()
    assert status.frames.drops == {"decode_error": 1} and SAID in status.problem
    engine.well()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(stream_module, "timed"), (stream_module, "check_pixels"), (Reader, "stretches"), (MemoryKeeper, "check_space")],
    ids=["sampling", "checking", "placing", "room"],
)
def test_taking_a_frame(engine: Engine, owner, name):
    with fault(owner, name, ERROR) as raised:
        engine.runner.push(engine.scene[0], engine.shown * 500_000_000)
        status = engine.show()
    assert raised.raised == 1
    assert status.frames.drops == {"decode_error": 1} and SAID in status.problem
    engine.well()


CHUNKS = {
    "patches": (visual, "to_patches"),
    "vision": (Qwen25VLAdapter, "embed_video"),
    "reading": (Reader, "_pairs"),
    "language": (Qwen25VLAdapter, "read"),
    "cache": (KVCache, "update"),
    "ledger": (Ledger, "grown"),
}


@pytest.mark.parametrize("stage", CHUNKS)
def test_a_chunk(engine: Engine, stage, caplog):
    signature = engine.runner.call(lambda stream: stream.signature()).result(20)
    with fault(*CHUNKS[stage], ERROR) as raised:
        status = engine.show()
    assert raised.raised == 1
    assert status.frames.drops == {"encode_error": CHUNK}
    assert "4 frames could not be encoded" in status.problem and SAID in status.problem
    assert "could not be encoded" in caplog.text
    assert engine.runner.call(lambda stream: stream.signature()).result(20) == signature
    engine.well()


CHOICES = Question("Is there a red circle?", ("yes it is there", "no it is not"))
BOUND = Question("What is visible now?", regex="[a-z ,]+")
ANSWERS = {
    "moment": (VideoStream, "defer"),
    "fork": (KVCache, "fork"),
    "prompt": (Generation, "prefill"),
    "prefill": (Qwen25VLAdapter, "read_text"),
    "choosing": (TokenChooser, "choose"),
    "join": (BatchCache, "join"),
    "batch": (DecodeBatch, "add"),
    "decoding": (DecodeBatch, "_forward"),
    "writing": (AnswerText, "add"),
    "news": (Generation, "news"),
    "answer": (Generation, "answer"),
    "history": (Dialogues, "history"),
    "scoring": (Fork, "score", CHOICES),
    "branches": (Qwen25VLAdapter, "logits", CHOICES),
    "grammar": (Constraint, "_check", BOUND),
    "mask": (Constraint, "mask", BOUND),
    "accepting": (Constraint, "accept", BOUND),
}


@pytest.mark.parametrize("stage", ANSWERS)
def test_an_answer(engine: Engine, stage, caplog):
    signature, caches = engine.runner.call(lambda stream: stream.signature()).result(20), full_caches()
    pieces: list[str] = []
    owner, name, question = (*ANSWERS[stage], QUESTION)[:3]
    with (
        fault(owner, name, ERROR) as raised,
        pytest.raises(RequestError, match=f"the engine could not answer: {SAID}"),
    ):
        engine.runner.ask(question, on_text=pieces.append, dialogue="patrol").result(20)
    assert raised.raised == 1
    assert engine.runner.status().questions.refusals == {"engine_error": 1}
    assert SAID in caplog.text
    nothing_is_left(engine, signature, caches, caplog)
    assert engine.runner.ask(question).result(20).complete
    engine.well()


def nothing_is_left(engine: Engine, signature: str, caches: int, caplog: pytest.LogCaptureFixture) -> None:
    """Of a question that failed: the stream is as it was, and nothing is held."""
    forget_tracebacks(caplog)
    assert engine.runner.call(lambda stream: stream.signature()).result(20) == signature
    assert engine.runner.call(lambda _: len(engine.runner._answering._batch)).result(20) == 0
    assert engine.runner.call(lambda _: engine.runner._answering.memory_bytes).result(20) == 0
    assert engine.runner.call(lambda stream: stream.cache.pinned_bytes).result(20) == 0
    assert full_caches() == caches


def test_a_token_of_several_answers(engine: Engine):
    """A step that fails as a whole is tried row by row: nobody is lost."""
    with fault(BatchCache, "only", ERROR, when=lambda _, rows: len(rows) > 1) as raised:
        asked = [engine.runner.ask(question) for question in (QUESTION, Question("How many objects are there?"))]
        assert [future.result(20).text for future in asked] == [RIGHT, "1"]
    assert raised.raised == 1
    engine.well()


def test_a_row_of_several_answers(engine: Engine, caplog):
    """The step fails as a whole, and for one of them when they are tried row by row: the other one is right."""
    signature, caches = engine.runner.call(lambda stream: stream.signature()).result(20), full_caches()
    with (
        fault(DecodeBatch, "_forward", ERROR, when=lambda _, rows: len(rows) > 1) as together,
        fault(DecodeBatch, "_forward", ERROR, when=lambda _, rows: together.raised and list(rows) == [0]) as alone,
    ):
        failing, other = (engine.runner.ask(q) for q in (QUESTION, Question("How many objects are there?")))
        with pytest.raises(RequestError, match=f"the engine could not answer: {SAID}"):
            failing.result(20)
        assert other.result(20).text == "1"
    assert (together.raised, alone.raised) == (1, 1)
    assert engine.runner.status().questions.refusals == {"engine_error": 1}
    nothing_is_left(engine, signature, caches, caplog)
    engine.well()


def test_a_turn_that_cannot_become_part_of_its_dialogue(engine: Engine):
    with fault(Dialogues, "append", ERROR):
        assert engine.ask(dialogue="patrol") == RIGHT, "the answer is there all the same"
    assert SAID in engine.runner.status().problem
    assert engine.runner.dialogues.history("patrol") == ()
    engine.well()


def test_a_turn_that_cannot_be_remembered(engine: Engine):
    with fault(VideoStream, "remember", ERROR):
        answer = engine.runner.ask(QUESTION, remember=True).result(20)
    assert (answer.text, answer.remembered) == (RIGHT, False)
    assert SAID in engine.runner.status().problem
    engine.well()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Watching, "_planned"),
        (Watching, "_scored"),
        (TreeBatch, "score"),
        (TreeBatch, "_blocks"),
        (Watches, "succeeded"),
        (Watches, "tell"),
    ],
    ids=["planning", "scoring", "forward", "sums", "booking", "telling"],
)
def test_a_standing_question(engine: Engine, owner, name, caplog):
    caches = full_caches()
    with fault(owner, name, ERROR) as raised:
        engine.runner.add_watch(Watch("red", "Is there a red circle?"))
        engine.show()
        engine.wait(lambda: raised.raised == 1 and SAID in engine.runner.status().problem)
    engine.well()
    engine.wait(lambda: engine.runner.watches()[0].firing)
    (report,) = engine.runner.watches()
    assert report.firing and not report.error
    nothing_is_left(engine, engine.runner.call(lambda stream: stream.signature()).result(20), caches, caplog)


REQUESTS = {
    "reset": (lambda e: e.runner.reset(), VideoStream, "reset"),
    "keep": (lambda e: e.runner.keep("here"), Memories, "keep"),
    "recall": (lambda e: e.runner.recall("here"), Memories, "recall"),
    "reconfigure": (lambda e: e.runner.reconfigure(StreamConfig(target_fps=0, chunk_frames=2)), VideoStream, "_use"),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request(engine: Engine, request_, caplog):
    act, owner, name = REQUESTS[request_]
    with fault(owner, name, ERROR) as raised, pytest.raises(RequestError, match=f"could not do it: {SAID}"):
        act(engine).result(20)
    assert raised.raised == 1 and SAID in caplog.text
    engine.well()


def test_the_engine_says_what_it_cannot_survive(engine: Engine, caplog):
    """What is no exception of the work but the end of the thread: nobody waits, and the status says so."""
    caplog.set_level(logging.ERROR)
    with fault(Watching, "look", SystemExit("out of the blue")):
        asked = engine.runner.ask(Question("What is visible now?", max_new_tokens=100))
        with pytest.raises(RequestError, match="shut down before it could answer"):
            asked.result(20)
    status = engine.runner.status()
    assert "the engine stopped: SystemExit: out of the blue; restart the node" in status.problem
    assert status.questions.refusals == {"shutdown": 1} and status.questions.balanced and status.frames.balanced
    assert "the engine stopped" in caplog.text
