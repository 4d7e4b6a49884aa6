"""Text as it grows: no halves of characters, no beginnings of stop strings, and in the end the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_vl_ros.engine import load_model
from stream_vl_ros.engine.answer_text import AnswerText


@pytest.fixture(scope="module")
def tokenizer():
    return load_model("embedded", device="cpu").tokenizer


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids


# Characters of one to four bytes; the embedded tokenizer knows few of them, so most are several tokens.
TEXTS = st.text(st.sampled_from("ab \nrë日🚗."), max_size=30)

STOPS = st.text(st.sampled_from("ab \nr日🚗"), min_size=1, max_size=4)


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_the_pieces_are_the_text(tokenizer, text):
    answer, pieces = AnswerText(tokenizer), []
    for token in encode(tokenizer, text):
        answer.add(token)
        pieces.append(answer.news())
        assert "\ufffd" not in pieces[-1]
    pieces.append(answer.news(finished=True))
    assert "".join(pieces) == answer.text == text.strip()


@settings(deadline=None, max_examples=300)
@given(
    text=TEXTS, stop=st.lists(st.text(st.sampled_from("ab \nr日🚗"), min_size=1, max_size=4), min_size=1, max_size=3)
)
def test_nothing_of_a_stop_string_is_shown(tokenizer, text, stop):
    answer, pieces = AnswerText(tokenizer, stop), []
    for token in encode(tokenizer, text):
        answer.add(token)
        pieces.append(answer.news())
        if answer.stopped:
            break
    pieces.append(answer.news(finished=True))
    complete = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]  # the one that is complete first
    expected = text[: min(complete)[1]] if complete else text
    assert answer.stopped == bool(complete)
    assert "".join(pieces) == answer.text == expected.strip()


def test_a_stop_string_over_several_tokens(tokenizer):
    answer = AnswerText(tokenizer, ("d ci",))
    ids = encode(tokenizer, "a red circle")
    assert len(ids) > 2
    for token in ids:
        answer.add(token)
        if answer.stopped:
            break
    assert answer.stopped
    assert answer.text == "a re"


def test_special_tokens_are_no_text(tokenizer):
    answer = AnswerText(tokenizer)
    for token in [*encode(tokenizer, "red"), tokenizer.convert_tokens_to_ids("<|video_pad|>")]:
        answer.add(token)
    assert answer.text == answer.news(finished=True) == "red"


def test_half_a_character_at_the_end_is_part_of_the_answer(tokenizer):
    ids = encode(tokenizer, "🚗")
    assert len(ids) > 1
    answer = AnswerText(tokenizer)
    answer.add(ids[0])
    assert answer.news() == ""
    assert answer.text == answer.news(finished=True) == tokenizer.decode(ids[:1])
