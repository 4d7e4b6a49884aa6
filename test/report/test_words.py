"""Numbers, names and foreign text."""

from __future__ import annotations

import pytest

from stream_vl_ros.report.results import Point, Said
from stream_vl_ros.report.words import answer, mark, median, number, quantity, slugs, visible


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (8192, "8,192"),
        (1234567.0, "1,234,567"),
        (0.25, "0.25"),
        (410.5, "410.5"),
        (225.6512, "225.7"),
        (11.0431, "11.0"),
        (9.78123, "9.78"),
        (0.0123456, "0.0123"),
        (-3.14159, "-3.14"),
        (12345.678, "12,346"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1e-12, "0.000000000"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_a_median_of_several_values_has_its_range():
    assert median(Point("stream", "total", "ms", 1, (3.0, 1.0, 2.0))) == "2 (1 to 3)"
    assert median(Point("stream", "cache tokens", "", 1, (527.0,))) == "527"


def test_a_unit_is_not_said_twice():
    assert quantity("first token", "ms") == "first token, ms"
    assert quantity("bytes per token", "bytes") == "bytes per token"
    assert quantity("cache tokens", "") == "cache tokens"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 漢\nnext", "plain ä 漢\nnext"),
        ("a\x1b[31mb\x00", r"a\x1b[31mb\x00"),
        ("a\u202eb\u200bc", r"a\u202eb\u200bc"),
        ("a\r\nb\rc", "a\nb\\rc"),
        ("a\tb\u00a0c", "a b c"),
        ("\ud800", r"\ud800"),
    ],
)
def test_visible(text, shown):
    assert visible(text) == shown


def test_slugs_are_safe_and_differ():
    names = ["max fps", "max-fps", "../../etc", "<b>", "漢", "footage vtest"]
    assert list(slugs(names).values()) == ["max-fps", "max-fps-2", "etc", "b", "section", "footage-vtest"]


@pytest.mark.parametrize(
    ("native", "identical", "word"),
    [
        ("a", True, "identical"),
        ("b", False, "different"),
        ("a", None, "not compared"),
        (None, None, "native out of memory"),
    ],
)
def test_mark(native, identical, word):
    assert mark(Said("", "", "a", native, identical)) == word


@pytest.mark.parametrize(
    ("text", "ids", "shown"),
    [("yes", (1,), "yes"), ("", (1, 22), "(no text; tokens 1 22)"), (" \n", (3,), "(no text; tokens 3)"), ("", (), "")],
)
def test_where_there_is_no_text_tokens_are_shown(text, ids, shown):
    assert answer(text, ids) == shown
