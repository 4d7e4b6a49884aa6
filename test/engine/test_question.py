"""What can be asked, and how."""

from __future__ import annotations

import pytest

from stream_vl_ros.engine import Question, Turn
from stream_vl_ros.errors import ConfigError, PromptError


def test_defaults_are_greedy_and_free():
    question = Question("  What is it? ")
    assert (question.text, question.temperature, question.choices, question.grammar) == ("What is it?", 0.0, (), "")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", 1e-300),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_numbers_that_cannot_be_used_name_themselves(field, value):
    with pytest.raises(ConfigError, match=f"{field}="):
        Question("What is it?", **{field: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stop": ("a", "")}, "empty string"),
        ({"stop": tuple("abcdefghijklmnopq")}, "17 stop strings"),
        ({"regex": "(red"}, "regex='\\(red' cannot be used.*unclosed group"),
        ({"json_schema": {"type": "objct"}}, "json_schema=.*objct"),
        ({"json_schema": "{no json"}, "json_schema='{no json' cannot be used"),
        ({"regex": "a", "json_schema": {}}, "give one of them"),
        ({"regex": "a" * 100_001}, "100001 characters"),
        ({"regex": "yes|no", "choices": ("yes", "no")}, "scored, not written"),
        ({"history": (Turn(" ", "red"),)}, "question=' '"),
        ({"choices": ("yes",)}, "at least two"),
    ],
)
def test_texts_that_cannot_be_used_say_why(fields, message):
    with pytest.raises(PromptError, match=message):
        Question("What is it?", **fields)


def test_one_stop_string_may_be_given_as_it_is():
    assert Question("What is it?", stop="\n").stop == ("\n",)


def test_a_schema_may_be_text_or_a_mapping():
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}}
    text = '{"type": "object", "properties": {"colour": {"type": "string"}}}'
    assert Question("What?", json_schema=schema).grammar == Question("What?", json_schema=text).grammar != ""
