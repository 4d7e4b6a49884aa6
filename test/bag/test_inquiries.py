"""Which question is asked when, and with which options."""

from __future__ import annotations

import pytest

from stream_vl_ros.bag.ask_bag import parser
from stream_vl_ros.bag.inquiries import inquiries
from stream_vl_ros.errors import ConfigError, PromptError

A, B = ["-q", "A?"], ["-q", "B?"]
Asked = list[tuple[str, float | None, tuple[str, ...]]]


def asked(*words: str) -> Asked:
    args = parser().parse_args(["bag", *words])
    found = inquiries(args.drafts, args.at)
    assert [i.number for i in found] == list(range(1, len(found) + 1))
    return [(i.text, i.at, i.choices) for i in found]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (A, [("A?", None, ())]),
        ([*A, "--at", "5"], [("A?", 5.0, ())]),
        ([*A, "--at", "5", "--at", "end", "--at", "0"], [("A?", 5.0, ()), ("A?", None, ()), ("A?", 0.0, ())]),
        ([*A, *B], [("A?", None, ()), ("B?", None, ())]),
        ([*A, "--at", "7", *B, "--at", "5"], [("A?", 7.0, ()), ("B?", 5.0, ())]),
        (["--at", "7", "--at", "end", *A, *B], [("A?", 7.0, ()), ("B?", None, ())]),
        ([*A, "--choices", "yes, no", *B], [("A?", None, ("yes", "no")), ("B?", None, ())]),
        (
            [*A, *B, "--choice", "yes, quite", "--choice", "no"],
            [("A?", None, ()), ("B?", None, ("yes, quite", "no"))],
        ),
        (["--choices", "yes,no", *A, *B], [("A?", None, ("yes", "no")), ("B?", None, ())]),
        ([*A, "--choices", "x,y", "--at", "1", "--at", "2"], [("A?", 1.0, ("x", "y")), ("A?", 2.0, ("x", "y"))]),
    ],
)
def test_pairs(words: list[str], expected: Asked) -> None:
    assert asked(*words) == expected


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        ([], PromptError, "no question"),
        (["--choices", "a,b"], PromptError, "no question"),
        (["-q", "  "], PromptError, "it is empty"),
        ([*A, *B, "--at", "3"], ConfigError, "2 questions but 1 moments"),
        ([*A, *B, "--at", "3", "--at", "4", "--at", "5"], ConfigError, "2 questions but 3 moments"),
        ([*A, "--choices", "yes"], PromptError, "choices"),
        ([*A, "--choices", "yes,yes"], PromptError, "choices"),
    ],
)
def test_what_is_unclear(words: list[str], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        asked(*words)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon", ""])
def test_moments_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        asked(*A, f"--at={text}")
    assert caught.value.code == 2
    assert f"{text!r} is no moment of a recording" in capsys.readouterr().err
