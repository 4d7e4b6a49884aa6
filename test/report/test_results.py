"""The file of a report, there and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from made_up import made_up

from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.results import FILE, Point, Results


def test_load_gives_what_was_saved(tmp_path):
    results = made_up()
    results.save(tmp_path)
    assert Results.load(tmp_path) == results
    assert Results.load(tmp_path / FILE) == results


def test_answers_of_reports_from_before_their_tokens_were_kept_can_be_read(tmp_path):
    made_up().save(tmp_path)
    record = json.loads((tmp_path / FILE).read_text())
    for section in record["sections"]:
        for said in section["said"]:
            del said["stream_ids"], said["native_ids"]
    (tmp_path / FILE).write_text(json.dumps(record))
    assert all(s.stream_ids == s.native_ids == () for s in Results.load(tmp_path).section("pair").said)


def test_a_section_that_failed_stays_one(tmp_path):
    results = made_up()
    results.sections[1].failed = True
    results.save(tmp_path)
    assert [s.failed for s in Results.load(tmp_path).sections] == [False, True, False, False, False]


def test_sections_of_reports_from_before_failures_were_kept_can_be_read(tmp_path):
    made_up().save(tmp_path)
    record = json.loads((tmp_path / FILE).read_text())
    for section in record["sections"]:
        del section["failed"]
    (tmp_path / FILE).write_text(json.dumps(record))
    assert not any(s.failed for s in Results.load(tmp_path).sections)


def test_points_come_in_the_order_of_the_axis():
    section = made_up().section("length")
    section.points.reverse()
    assert [p.x for p in section.of("first token", "native")] == [8, 16, 32, 64]
    assert section.at("first token", "native", 128) is None
    assert section.at("peak memory", "stream", 256).median == 184


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        "not json",
        '{"version": 1}',
        '{"version": 1, "environment": {}, "model": "", "sections": [{}]}',
    ],
)
def test_other_files_are_refused_with_their_name(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ReportError, match=r"results\.json is not the results of a report"):
        Results.load(tmp_path)


def _put(record: Any, at: tuple[str | int, ...], value: object) -> None:
    for key in at[:-1]:
        record = record[key]
    record[at[-1]] = value


POINT = ("sections", 0, "points", 0)


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (("environment",), None, "environment is null, not an object"),
        (("environment", "settings"), [], "environment.settings is [], not an object"),
        (("environment", "versions"), None, "environment.versions is null, not an object"),
        (("model",), 1, "model is 1, not text"),
        (("sections",), {}, "sections is {}, not a list"),
        (("sections", 1), "length", 'sections[1] is "length", not an object'),
        (("sections", 0, "name"), ["x"], 'sections[0].name is ["x"], not text'),
        (("sections", 0, "failed"), "no", 'sections[0].failed is "no", not true or false'),
        (("sections", 0, "findings"), "no", 'sections[0].findings is "no", not a list'),
        (("sections", 0, "said", 0, "native"), 1, "sections[0].said[0].native is 1, not text or null"),
        (("sections", 0, "said", 0, "stream_ids"), [1.5], "said[0].stream_ids[0] is 1.5, not a whole number"),
        (("sections", 4, "rungs", 0, "stride"), "1", 'sections[4].rungs[0].stride is "1", not a whole number'),
        ((*POINT, "values"), [], "sections[0].points[0].values is empty"),
        ((*POINT, "values"), 3, "sections[0].points[0].values is 3, not a list"),
        ((*POINT, "values"), [1, None], "sections[0].points[0].values[1] is null, not a number"),
        ((*POINT, "values"), [True], "sections[0].points[0].values[0] is true, not a number"),
        ((*POINT, "values"), [10**400], f"points[0].values[0] is 1{'0' * 39}..., not a number"),
        ((*POINT, "x"), "8", 'sections[0].points[0].x is "8", not a number'),
        ((*POINT,), {"series": "a"}, "sections[0].points[0].measure is missing"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(tmp_path, at, value, why):
    made_up().save(tmp_path)
    record = json.loads((tmp_path / FILE).read_text())
    _put(record, at, value)
    (tmp_path / FILE).write_text(json.dumps(record))
    with pytest.raises(ReportError) as error:
        Results.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / FILE} is not the results of a report: ")
    assert why in str(error.value)
    assert str(error.value).endswith(
        "; give the folder that `python -m stream_vl_ros.report` wrote, or the results.json in it"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{}", "version is missing"),
        (b"[]", "it is [], not an object"),
        (b"# Report", "it is no JSON (Expecting value: line 1 column 1"),
        (b"\xff\xfe", "it is no JSON ('utf-8' codec can't decode"),
        (b"[" * 100_000, "it is no JSON ("),
    ],
)
def test_why_another_file_is_none_is_said(tmp_path, text, why):
    (tmp_path / FILE).write_bytes(text)
    with pytest.raises(ReportError) as error:
        Results.load(tmp_path)
    assert f"is not the results of a report: {why}" in str(error.value)


def test_whole_numbers_and_what_is_no_number_are_values(tmp_path):
    results = made_up()
    results.sections[0].points = [Point("s", "m", "ms", 8, (3, float("inf"), 0.5))]
    results.save(tmp_path)
    assert Results.load(tmp_path) == results


def test_another_version_is_refused(tmp_path):
    made_up().save(tmp_path)
    record = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(ReportError, match="version 99"):
        Results.load(tmp_path)


def test_no_file_is_a_clear_error(tmp_path):
    with pytest.raises(ReportError, match="cannot be read: No such file"):
        Results.load(tmp_path / "nothing")
