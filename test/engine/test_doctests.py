"""The examples in the engine's docstrings, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import stream_vl_ros.engine

MODULES = [m.name for m in pkgutil.walk_packages(stream_vl_ros.engine.__path__, "stream_vl_ros.engine.")]
SHOWN = ("stream", "fork", "runner", "question", "video_file", "watch", "watches")
"""Modules whose use is shown."""


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_are_so(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
    if name.rsplit(".", 1)[1] in SHOWN:
        assert found.attempted > 0
