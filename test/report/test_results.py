"""The file of a report, there and back."""

from __future__ import annotations

import json

import pytest
from made_up import made_up

from stream_vl_ros.errors import ReportError
from stream_vl_ros.report.results import FILE, Results


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


def test_another_version_is_refused(tmp_path):
    made_up().save(tmp_path)
    record = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(ReportError, match="version 99"):
        Results.load(tmp_path)


def test_no_file_is_a_clear_error(tmp_path):
    with pytest.raises(ReportError, match="cannot be read: No such file"):
        Results.load(tmp_path / "nothing")
