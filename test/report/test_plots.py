"""The figures: what is in them, that they parse, and that the same points give the same bytes."""

from __future__ import annotations

import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from made_up import HOSTILE, exact, made_up

from stream_vl_ros.errors import ReportError
from stream_vl_ros.report import plots, svg
from stream_vl_ros.report.colours import BLUE, ORANGE, looks
from stream_vl_ros.report.results import Results, Rung, Section

NAMESPACE = "{http://www.w3.org/2000/svg}"


def texts(drawn: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(drawn).iter(f"{NAMESPACE}text")]


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return dict(plots.draw(made_up()))


def test_every_section_with_points_has_a_figure(drawn, tmp_path):
    assert list(drawn) == ["pair", "length", "eviction", "memory"]
    plots.write(made_up(), tmp_path)
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == sorted(f"{name}.svg" for name in drawn)


def test_same_points_same_bytes(drawn):
    assert dict(plots.draw(made_up())) == drawn
    assert dict(plots.draw(made_up(seed=1)))["length"] != drawn["length"]


def test_a_figure_names_measures_units_series_and_the_end_of_native(drawn):
    words = texts(drawn["length"])
    for word in ("first token", "peak memory", "accuracy", "ms, log scale", "MiB", "%", "stream", "native"):
        assert word in words
    assert words.count("out of memory at 128 frames") == 2
    assert "frames (log scale)" in words


def test_only_a_wide_range_of_medians_is_on_a_log_scale(drawn):
    assert "MiB" in texts(drawn["memory"])
    assert not any("log scale" in word for word in texts(drawn["eviction"]))


def test_one_place_on_the_axis_makes_bars_with_numbers(drawn):
    words = texts(drawn["pair"])
    assert "peak memory, MiB" in words
    assert "410.5 MiB" in words
    assert "frames" not in words


def test_native_that_did_not_fail_has_no_end():
    results = made_up()
    results.section("length").rungs.clear()
    assert not any("out of memory" in word for word in texts(dict(plots.draw(results))["length"]))


def test_a_series_with_one_place_is_a_reference_for_the_others():
    section = Section("eviction", "", "budget", "")
    for x, value in ((0.25, 5.0), (0.5, 6.0)):
        section.points.append(exact("window", "first token", "ms", x, value))
    section.points.append(exact("native", "first token", "ms", 1.0, 150.0))

    def dashes() -> int:
        return dict(plots.draw(Results({}, "", [section])))["eviction"].count("stroke-dasharray")

    referenced = dashes()
    section.rungs.append(Rung("64 frames", "native", 1, 64, False, "out of memory"))
    assert referenced == dashes() + 1, "one that only ends early is none"


def test_colours_are_the_same_everywhere(drawn):
    for section in ("pair", "length"):
        assert BLUE in drawn[section]
        assert ORANGE in drawn[section]
    found = looks(["stream", "native", "x", "y"])
    assert (found["stream"].colour, found["native"].colour) == (BLUE, ORANGE)
    assert len({look.colour for look in found.values()}) == 4


def test_text_is_text_and_nothing_says_when(drawn):
    for text in drawn.values():
        assert "<metadata" not in text
        assert "<!--" not in text
        assert len(text) < 60_000


def test_hostile_names_and_odd_values_can_be_drawn():
    section = Section("x", HOSTILE, f"{HOSTILE} $x_", "")
    for i, values in enumerate([(0.0,), (-1.0,), (1e9,), (1e-9,)]):
        point = exact(HOSTILE, f"$m_{{$ {HOSTILE}", "%", i, 0.0)
        section.points += [replace(point, values=values), replace(point, measure="zero", unit=HOSTILE)]
    section.points.append(exact("alone", "alone", "", 3, 0.0))
    text = dict(plots.draw(Results({}, "", [section])))["x"]
    assert any("<script>" in word for word in texts(text))
    assert "<script" not in text
    ElementTree.fromstring(svg.inline(text, "x", HOSTILE.replace("\x1b", "").replace("\x00", "")))


def test_inside_a_page_ids_differ_and_colours_follow_the_theme(drawn):
    ids: list[str] = []
    for name, text in drawn.items():
        inlined = svg.inline(text, name, "title")
        root = ElementTree.fromstring(inlined)
        own = [e.attrib["id"] for e in root.iter() if "id" in e.attrib]
        used = [v[1:] for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
        assert set(used) <= set(own)
        assert "<style" not in inlined
        assert svg.INK not in inlined
        assert "currentColor" in inlined
        ids += own
    assert len(ids) == len(set(ids))


def test_without_matplotlib_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ReportError, match="pip install matplotlib"):
        dict(plots.draw(made_up()))
