"""Answers bound to a regular expression or a JSON schema."""

from __future__ import annotations

import json
import re
import time

import jsonschema
import numpy as np
import pytest
import torch

from stream_vl_ros.engine import Finish, Question, StreamConfig, VideoStream, load_model
from stream_vl_ros.engine.constrained import Constraint, check_grammar
from stream_vl_ros.errors import PromptError, RequestError
from stream_vl_ros.world.heldout import heldout

SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green", "blue"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "seen": {"type": "boolean"},
    },
    "required": ["colour", "count", "seen"],
    "additionalProperties": False,
}
EXPRESSIONS = [r"(red|blue) (circle|square)", r"[0-9]{3}-[a-z]{2}", r"日本|🚗🚗", r"\d+ objects?\."]


@pytest.fixture(scope="module", params=["random", "embedded"])
def stream(request, loaded) -> VideoStream:
    model = loaded if request.param == "random" else load_model("embedded", device="cpu", dtype="float32")
    (clip,) = heldout(4, 1)
    stream = VideoStream(model, StreamConfig(target_fps=0))
    stream.append(clip.frames(), clip.stamps())
    return stream


@pytest.mark.parametrize("regex", EXPRESSIONS)
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_the_answer_matches_the_expression(stream, regex, temperature):
    signature = stream.signature()
    for seed in range(3 if temperature else 1):
        answer = stream.ask("What is it?", regex=regex, temperature=temperature, seed=seed)
        if answer.finish is Finish.STOP:
            assert re.fullmatch(regex, answer.text) and answer.complete, answer.text
        else:  # more digits than fit
            assert answer.finish is Finish.LENGTH
            assert regex.startswith(r"\d+")
    assert stream.signature() == signature


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_the_answer_fulfils_the_schema(stream, temperature):
    for seed in range(3 if temperature else 1):
        answer = stream.ask("What is it?", json_schema=SCHEMA, temperature=temperature, seed=seed, max_new_tokens=200)
        if answer.finish is Finish.STOP:
            jsonschema.validate(json.loads(answer.text), SCHEMA)
        else:  # white space may go on for ever; what is there is a beginning all the same
            assert answer.finish is Finish.LENGTH
            assert answer.text.startswith("{")


@pytest.mark.parametrize("text", ["red circle", "red square", "blue"])
def test_only_what_can_still_match_is_allowed(stream, text):
    """Token by token: nothing but beginnings of the texts is allowed, and each text can be written."""
    tokenizer, vocabulary = stream.model.tokenizer, stream.model.native.config.text_config.vocab_size
    texts = ["red circle", "red square", "blue"]
    constraint = Constraint(tokenizer, vocabulary, check_grammar("|".join(texts), ""))
    ids: list[int] = []
    for following in tokenizer(text, add_special_tokens=False).input_ids:
        allowed = constraint.mask(torch.zeros(vocabulary)).isfinite().nonzero()[:, 0].tolist()
        longer = [tokenizer.decode([*ids, token]) for token in allowed]
        assert all(any(t.startswith(some) for t in texts) for some in longer), longer
        assert following in allowed
        ids.append(following)
        constraint.accept(following)
    assert constraint.finished


def test_the_end_is_allowed_exactly_where_the_expression_may_end(stream):
    tokenizer, vocabulary = stream.model.tokenizer, stream.model.native.config.text_config.vocab_size
    constraint = Constraint(tokenizer, vocabulary, check_grammar("a(bb)?", ""))
    ends = []
    for character in "abb":
        ends.append(bool(constraint.mask(torch.zeros(vocabulary))[tokenizer.eos_token_id].isfinite()))
        constraint.accept(tokenizer(character, add_special_tokens=False).input_ids[0])
    assert ends == [False, True, False]
    assert constraint.finished


def test_a_bound_answer_is_the_most_probable_one_of_its_kind(stream):
    """Of two answers of one token each, the one with the higher score."""
    tokenizer = stream.model.tokenizer
    letters = [c for c in "abcdefgh" if len(tokenizer(c, add_special_tokens=False).input_ids) == 1]
    with stream.fork() as fork:
        logits = fork.feed(fork.ask.tokens(tokenizer, question="What is it?"))
    best = max(letters, key=lambda c: logits[tokenizer(c, add_special_tokens=False).input_ids[0]])
    assert stream.ask("What is it?", regex="|".join(letters)).text == best


def test_the_embedded_model_answers_what_it_knows_in_json():
    model = load_model("embedded", device="cpu", dtype="float32")
    (clip,) = heldout(16, 1)
    stream = VideoStream(model, StreamConfig(target_fps=0))
    stream.append(clip.frames(), clip.stamps())
    free = stream.ask("How many objects are there?").text
    assert free.isdigit()
    assert stream.ask("How many objects are there?", regex="[0-9]").text == free


def test_bound_and_free_answers_side_by_side(stream):
    questions = [
        Question("What is it?", max_new_tokens=12),
        Question("What is it?", regex=EXPRESSIONS[0]),
        Question("What is it?", json_schema=SCHEMA, max_new_tokens=40),
        Question("What is it?", max_new_tokens=12, stop="e"),
    ]
    assert [a.text for a in stream.ask_many(questions)] == [stream.ask(q).text for q in questions]


def test_length_may_cut_a_bound_answer(stream):
    answer = stream.ask("What is it?", regex="(red |blue ){40}", max_new_tokens=5)
    assert (answer.finish, len(answer.token_ids)) == (Finish.LENGTH, 5)
    assert not answer.fulfilled and not answer.complete
    enough = stream.ask("What is it?", regex="[a-z ]{1,200}", max_new_tokens=5)
    assert enough.fulfilled and enough.complete, "it could go on, and need not"
    assert stream.ask("What is it?", max_new_tokens=1).complete, "of a free answer so much was asked for"


def test_stop_strings_end_an_answer(stream):
    free = stream.ask("What is it?", max_new_tokens=20)
    middle = free.text[len(free.text) // 2 :][:2]
    assert middle.strip()
    answer = stream.ask("What is it?", max_new_tokens=20, stop=(middle,))
    assert answer.finish is Finish.STOP_STRING
    assert answer.complete
    assert answer.text == free.text[: free.text.index(middle)].strip()
    assert np.array_equal(answer.token_ids, free.token_ids[: len(answer.token_ids)])


@pytest.mark.parametrize("regex", ["((a{1000}){1000}){1000}", "a{1000000}", ".*" * 2000])
def test_an_expression_that_explodes_is_refused_soon_and_in_few_words(stream, regex):
    check_grammar(regex, "")
    stream.ask("What is it?", regex="yes|no")
    started = time.perf_counter()
    with pytest.raises(RequestError, match="simpler") as caught:
        stream.ask("What is it?", regex=regex)
    assert time.perf_counter() - started < 1
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


@pytest.mark.parametrize("regex", ["(" * 90_000, "[" * 90_000])
def test_a_long_expression_is_not_repeated_in_full(regex):
    with pytest.raises(PromptError, match="left out") as caught:
        check_grammar(regex, "")
    assert len(str(caught.value)) < 1500
