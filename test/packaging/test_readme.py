"""What the README says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream_vl_ros.ros import stream_parameters, watch_parameters
from stream_vl_ros.ros.encodings import ENCODINGS
from stream_vl_ros.ros.parameters import markdown
from stream_vl_ros.web import options

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_table_of_parameters_is_the_nodes():
    table = re.search(r"<!-- parameters: .*? -->\n(.*?)\n<!-- end of parameters -->", README, re.DOTALL)
    assert table is not None and table.group(1) == markdown()


@pytest.mark.parametrize("kind", ["action", "srv", "msg"])
def test_every_interface_is_in_the_table(kind):
    for file in (ROOT / kind).iterdir():
        assert f"`stream_vl_ros/{kind}/{file.stem}`" in README


def test_the_table_of_watch_parameters_is_the_nodes():
    table = re.search(r"<!-- watches: .*? -->\n(.*?)\n<!-- end of watches -->", README, re.DOTALL)
    assert table is not None and table.group(1) == watch_parameters.markdown()


def test_the_table_of_web_parameters_is_the_pages():
    table = re.search(r"<!-- web: .*? -->\n(.*?)\n<!-- end of web -->", README, re.DOTALL)
    assert table is not None and table.group(1) == options.markdown()


def test_the_table_of_stream_parameters_is_the_nodes():
    table = re.search(r"<!-- streams: .*? -->\n(.*?)\n<!-- end of streams -->", README, re.DOTALL)
    assert table is not None and table.group(1) == stream_parameters.markdown()


def test_the_table_of_encodings_is_the_decoders():
    table = re.search(r"<!-- encodings -->\n(.*?)\n<!-- end of encodings -->", README, re.DOTALL)
    assert table is not None
    named = [name for row in table.group(1).splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(ENCODINGS)


@pytest.mark.parametrize("path", re.findall(r"`((?:test|docs|config|scripts)/[\w/.]+)`", README))
def test_files_that_are_named_exist(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^(?:\$ )?make (\w+)", README, re.MULTILINE))))
def test_make_targets_that_are_named_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
