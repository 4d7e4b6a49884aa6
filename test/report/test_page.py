"""The page in a real browser: everything can be seen on a phone as well, in the light and in the dark."""

from __future__ import annotations

import pytest
from made_up import made_up

from stream_vl_ros.report.results import Rung
from stream_vl_ros.report.write import write

LONG = "native inference ran out of memory, with a cap of 6000 MiB beyond that; it said: " + "a word " * 80


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    results, folder = made_up(), tmp_path_factory.mktemp("report")
    rungs = results.section("length").rungs
    rungs[0] = Rung("256 frames", "native", 1, 256, False, LONG)
    rungs[1] = Rung("256 frames", "native", 2, 128, False, LONG)
    write(results, folder)
    return (folder / "index.html").as_uri()


@pytest.fixture
def open_page(browser, address):
    pages = []

    def opened(width: int, theme: str = "light"):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
        pages.append(page)
        page.goto(address)
        return page

    yield opened
    for page in pages:
        page.close()


def edges(page, selector: str) -> list[dict[str, float]]:
    return page.eval_on_selector_all(selector, "all => all.map(e => e.getBoundingClientRect().toJSON())")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_beyond_the_window(open_page, width):
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for selector in (".plots svg", ".stacked td"):
        found = edges(page, selector)
        assert len(found) > 5
        assert all(e["left"] >= 0 and e["right"] <= width for e in found), selector


@pytest.mark.parametrize(("width", "columns"), [(390, 1), (1280, 2)])
def test_panels_stand_side_by_side_where_there_is_room(open_page, width, columns):
    assert len({e["left"] for e in edges(open_page(width), "#length .plots svg")}) == columns


def test_words_in_plots_can_be_read_on_a_phone(open_page):
    texts = edges(open_page(390), ".plots svg text:not([transform*='rotate(-90'])")
    assert len(texts) > 50
    assert min(e["height"] for e in texts) > 9


def test_attempts_have_the_whole_width_on_a_phone(open_page):
    page = open_page(390)
    (row, *_) = edges(page, "#length .stacked tbody tr")
    (words, *_) = edges(page, "#length .stacked tbody td:last-child")
    assert words["width"] > 0.9 * row["width"] > 300
    assert page.eval_on_selector("#length .stacked td", "e => getComputedStyle(e, '::before').content") == '"of "'


@pytest.mark.parametrize(("theme", "paper"), [("light", "rgb(254, 254, 254)"), ("dark", "rgb(22, 25, 28)")])
def test_words_on_curves_have_the_paper_behind_them(open_page, theme, paper):
    page = open_page(1280, theme)
    style = page.locator("#length svg text", has_text="out of memory at 128 frames").first.evaluate(
        "e => { const s = getComputedStyle(e); return [s.stroke, s.paintOrder, parseFloat(s.strokeWidth)] }"
    )
    assert style[0] == paper == page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert style[1].startswith("stroke") and style[2] >= 2
