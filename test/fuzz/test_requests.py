"""Mutated questions: an answer, or a refusal with a short reason, and never a trace."""

from __future__ import annotations

import random
import time

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("stream_vl_ros.srv", reason="the package was not built: run `make build`")

from mutated_images import SECOND, START, good
from mutated_requests import CHOICES, INJECTIONS, NUMBERS, REGEXES, SCHEMAS, TEXTS, TOKENS, request, text
from rclpy.serialization import deserialize_message, serialize_message
from stream_vl_ros.srv import Ask

from stream_vl_ros.demo.scene import demo_clip
from stream_vl_ros.engine import Question, VideoStream
from stream_vl_ros.engine.process_memory import status_bytes
from stream_vl_ros.errors import StreamVLError
from stream_vl_ros.ros.messages import MAX_CHARACTERS, MAX_CHOICES, answer_message, fill_response, refuse, to_time
from stream_vl_ros.ros.parameters import checked
from stream_vl_ros.ros.session import Session

MIB = 1 << 20
RIGHT = "a red circle, a blue square"
# Seconds that one request may hold up the video and everybody else.
PATIENCE = 1.5


@pytest.fixture(scope="module")
def session(embedded):
    it = Session(embedded, checked({"target_fps": 0.0}))
    pictures, seconds = demo_clip(10.0)
    for picture, second in zip(pictures, seconds, strict=True):
        it.push(good(picture, START + int(second * SECOND)))
    yield it
    it.close(10.0)


def respond(session: Session, fields: dict) -> Ask.Response:
    """As the node answers."""
    message, response = Ask.Request(**fields), Ask.Response()
    try:
        fill_response(response, session.ask(message).result(60))
    except StreamVLError as error:
        refuse(response, error)
    told = answer_message(1, "", message, response, "", to_time(0))
    assert len(told.question) <= MAX_CHARACTERS + 100 and len(told.choices) <= MAX_CHOICES
    return response


def test_mutated_requests(session, fuzz_seed):
    before, answered, refused = session.signature().result(60), 0, 0
    resident = []
    for number in range(400):
        fields = request(fuzz_seed, number)
        started = time.process_time()  # of the whole process: a busy machine has no part in it
        response = respond(session, fields)
        seconds = time.process_time() - started
        shown = {name: str(value)[:60] for name, value in fields.items()}
        # Long answers may be asked for, but not that reading a request takes long.
        if not response.answer_tokens:
            assert seconds < PATIENCE, (number, shown, response.error)
        assert response.success or response.error, (number, shown)
        assert len(response.error) <= 2200, (number, shown, len(response.error))
        answered, refused = answered + response.success, refused + (not response.success)
        resident.append(status_bytes("VmRSS") / MIB)
    assert answered > 40 and refused > 100
    assert session.signature().result(60) == before, "a question left a trace in the memory"
    assert resident[-1] - resident[150] < 60, (resident[150], resident[-1])
    assert respond(session, {"question": "What is visible now?"}).answer == RIGHT


def test_requests_that_are_no_utf_8(session):
    """What rclpy makes of the bytes of a client in another language."""
    whole = serialize_message(Ask.Request(question="What is QQQQ?", dialogue="DDDD", choices=["QQQQ", "no"]))
    for bad in (b"\xff\xff\xff\xff", b"\xed\xa0\x80!", b"\xc0\x80\xf8\x88", b"\x80\x80\x80\x80", b"\0\0\0\0"):
        asked = deserialize_message(whole.replace(b"QQQQ", bad).replace(b"DDDD", bad), Ask.Request)
        fields = {name: getattr(asked, name) for name in ("question", "dialogue", "choices", "timeout")}
        response = respond(session, fields)
        assert response.success or "empty" in response.error, response.error
        serialize_message(response)


def test_mutated_questions(embedded, fuzz_seed):
    """What only a program can ask for: how tokens are drawn, where to stop, earlier turns."""
    stream = VideoStream(embedded)
    stream.append(*demo_clip(10.0))
    random_ = random.Random(fuzz_seed)
    answered = longest = 0
    for _ in range(3000):
        options = {
            "temperature": random_.choice((0.0, 0.7, 1e-3, 100.0, 1e-300, *NUMBERS)),
            "top_p": random_.choice((1.0, 0.5, 1e-300, *NUMBERS)),
            "top_k": random_.choice((0, 1, -1, 2**70)),
            "seed": random_.choice((None, 0, -1, 2**63 - 1, 2**63)),
            "stop": random_.choice(
                ((), ("",), ("\0",), "x", ("<|im_end|>",), ("y" * 100_000,), ("a",) * 17, ("\ud800",))
            ),
            "max_new_tokens": random_.choice((-1, 0, 1, 8)),
            "choices": tuple(random_.choice((*CHOICES, ["\ud800", "b"]))) if random_.random() < 0.1 else (),
            "regex": random_.choice((*REGEXES, "\ud800")) if random_.random() < 0.1 else "",
            "json_schema": random_.choice((*SCHEMAS, "\ud800")) if random_.random() < 0.1 else "",
        }
        question = random_.choice(("\ud800", "a\udfff?", text(random_), "What is visible now?"))
        try:
            wanted = Question(question, **options)
            if answered < 150:
                stream.ask(wanted)
                answered += 1
        except StreamVLError as error:
            longest = max(longest, len(str(error)))
    assert answered > 20 and longest < 3000
    assert stream.ask("What is visible now?").text == RIGHT


@pytest.mark.parametrize("question", [*INJECTIONS, *TOKENS])
def test_what_is_typed_is_never_a_special_token(embedded, question):
    """Of every tokenizer's own list: the prompt has as many of them as with any other question."""
    stream = VideoStream(embedded)
    stream.append(*demo_clip(2.0))
    special = set(embedded.tokenizer.all_special_ids)
    assert len(special) > 5

    def typed(piece, **fill: str) -> list[int]:
        return [i for i in piece.tokens(embedded.tokenizer, **fill) if i in special]

    pieces = stream.pieces
    for piece in (pieces.ask, pieces.follow_up):
        assert typed(piece, question=question) == typed(piece, question="plain")
    for fill in ({"question": question, "answer": "plain"}, {"question": "plain", "answer": question}):
        assert typed(pieces.remember, **fill) == typed(pieces.remember, question="plain", answer="plain")


def test_a_large_text_takes_no_time(session):
    """Refused by its length, before it is made into tokens between two chunks of video."""
    session.ask(Ask.Request(question="What is visible now?")).result(60)
    started = time.process_time()
    for question in [t for t in TEXTS if len(t) > MAX_CHARACTERS]:
        assert "characters" in respond(session, {"question": question}).error
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"timeout": 86_401.0}, "at most 86400"),
        ({"timeout": float("nan")}, "must be a number of seconds"),
        ({"max_new_tokens": 2**32 - 1}, "at most 100000"),
        ({"dialogue": "x" * 257}, "256 at the most"),
    ],
)
def test_limits_of_a_request(session, fields, reason):
    """Those of the parameters hold for who asks, too: an answer that never ends would keep its place for ever."""
    assert reason in respond(session, {"question": "What is visible now?", **fields}).error
