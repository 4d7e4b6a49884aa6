"""Values of others in messages."""

from __future__ import annotations

from stream_vl_ros.brief import brief, shown


def test_what_is_short_stays():
    assert brief("a" * 2000) == "a" * 2000
    assert shown("a\n") == "'a\\n'"


def test_what_is_long_keeps_its_ends():
    text = brief("begin" + "x" * 500 + "end", 30)
    assert text.startswith("begin") and text.endswith("end")
    assert "478 characters left out" in text
    assert len(shown(["x" * 10_000] * 10_000)) < 150
