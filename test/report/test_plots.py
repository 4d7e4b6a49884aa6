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
from stream_vl_ros.report.results import Point, Results, Rung, Section
from stream_vl_ros.report.sides import Clip, _numbers

NAMESPACE = "{http://www.w3.org/2000/svg}"


def texts(drawn: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(drawn).iter(f"{NAMESPACE}text")]


Drawn = dict[tuple[str, str], str]


def draw(results: Results) -> Drawn:
    return {(section, measure): text for section, measure, text in plots.draw(results)}


def one(section: Section) -> str:
    """The only panel of a section."""
    (text,) = draw(Results({}, "", [section])).values()
    return text


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(made_up())


def test_every_measure_has_a_file_of_its_own(drawn, tmp_path):
    assert list(dict.fromkeys(section for section, _ in drawn)) == ["pair", "length", "eviction", "memory"]
    assert [m for s, m in drawn if s == "length"] == ["first token", "peak memory", "cache memory", "accuracy"]
    written = plots.write(made_up(), tmp_path)
    assert {(s, m): text for s, some in written.items() for m, text in some.items()} == drawn
    named = {file: drawn[s, m] for s, some in plots.files(made_up()).items() for m, file in some.items()}
    found = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*.svg")}
    assert found == named
    assert "plots/length/first-token.svg" in found


def test_same_points_same_bytes(drawn):
    assert draw(made_up()) == drawn
    assert draw(made_up(seed=1))["length", "first token"] != drawn["length", "first token"]


@pytest.mark.parametrize(
    ("measure", "unit"), [("first token", "ms, log scale"), ("peak memory", "MiB"), ("accuracy", "%")]
)
def test_a_panel_names_its_measure_unit_and_series(drawn, measure, unit):
    assert {measure, unit, "stream", "native"} <= set(texts(drawn["length", measure]))


def test_a_curve_says_where_and_with_how_much_memory_native_ended(drawn):
    words = texts(drawn["length", "peak memory"])
    assert "out of memory at 128 frames" in words
    assert "frames (log scale)" in words
    assert not any("cap" in word for word in words)
    results = made_up()
    section = results.section("length")
    numbers = _numbers(Clip("x", [], [], 0.0), MemoryError(), 0, 0, 6000.0)
    section.rungs[1] = replace(section.rungs[1], words=f"native inference {numbers}")
    words = texts(draw(results)["length", "peak memory"])
    assert words[words.index("out of memory at 128 frames") + 1] == "with a cap of 6,000 MiB"


def test_only_a_wide_range_of_medians_is_on_a_log_scale(drawn):
    assert "MiB, log scale" not in texts(drawn["memory", "cache memory"])
    assert not any("log scale" in word for word in texts(drawn["eviction", "accuracy"]))


def test_one_place_on_the_axis_makes_bars_with_numbers(drawn):
    words = texts(drawn["pair", "peak memory"])
    assert "peak memory, MiB" in words
    assert "410.5 MiB" in words
    assert "frames" not in words


def test_native_that_did_not_fail_has_no_end():
    results = made_up()
    results.section("length").rungs.clear()
    assert not any("out of memory" in word for word in texts(draw(results)["length", "peak memory"]))


def test_a_series_with_one_place_is_a_reference_for_the_others():
    section = Section("eviction", "", "budget", "")
    for x, value in ((0.25, 5.0), (0.5, 6.0)):
        section.points.append(exact("window", "first token", "ms", x, value))
    section.points.append(exact("native", "first token", "ms", 1.0, 150.0))

    def dashes() -> int:
        return one(section).count("stroke-dasharray")

    referenced = dashes()
    section.rungs.append(Rung("64 frames", "native", 1, 64, False, "out of memory"))
    assert referenced == dashes() + 1, "one that only ends early is none"


def far_off(largest: float) -> Section:
    section = Section("questions", "", "questions at once", "")
    for x in (1, 4, 8):
        section.points.append(Point("native", "token", "ms", x, (40.0, 45.0, 50.0), timed=True))
        section.points.append(Point("stream", "token", "ms", x, (3.0, 4.0, largest if x == 4 else 5.0), timed=True))
    return section


def test_one_value_that_is_far_off_does_not_flatten_the_medians():
    words = texts(one(far_off(1650.0)))
    assert "bands go on to 1,650 ms" in words
    assert {"80", "100"} <= set(words) and "120" not in words
    words = texts(one(far_off(400.0)))
    assert not any("go on" in word for word in words)
    assert "400" in words


def test_a_legend_has_as_many_names_in_a_row_as_fit():
    assert plots._columns(["stream", "stream, last 64 frames", "native"]) == 3
    assert plots._columns(["full cache", "native", "window", "importance"]) == 4
    assert plots._columns(["stream, last 64 frames", "native, last 64 frames", "stream"]) == 2
    assert plots._columns(["a name so long that it takes the whole of a row", "b"]) == 1


def test_colours_are_the_same_everywhere(drawn):
    for section in ("pair", "length"):
        assert BLUE in drawn[section, "first token"]
        assert ORANGE in drawn[section, "first token"]
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
    found = draw(Results({}, "", [section])).values()
    assert len(found) == 3
    for text in found:
        assert any("<script>" in word for word in texts(text))
        assert "<script" not in text
        ElementTree.fromstring(svg.inline(text, "x", HOSTILE.replace("\x1b", "").replace("\x00", "")))


def test_inside_a_page_ids_differ_and_colours_follow_the_theme(drawn):
    ids: list[str] = []
    for i, text in enumerate(drawn.values()):
        inlined = svg.inline(text, f"panel-{i}", "title")
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
        draw(made_up())
