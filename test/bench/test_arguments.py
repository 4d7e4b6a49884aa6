"""What cannot work is refused before anything is loaded."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

WRONG = [
    ("accuracy", "--clips", "-1"),
    ("accuracy", "--threads", "0"),
    ("endless", "--hours", "0"),
    ("eviction", "--budgets", "-1"),
    ("eviction", "--budgets", "nan"),
    ("exactness", "--pairs", "0"),
    ("forks", "--lengths", "x"),
    ("gpu", "--tokens", "0"),
    ("load", "--seconds", "inf"),
    ("load", "--clients", "1.5"),
    ("soak", "--hours", "-2"),
    ("watches", "--watches", "0"),
]


@pytest.mark.parametrize(("bench", "option", "value"), WRONG)
def test_numbers_that_cannot_work(capsys, bench, option, value):
    module = importlib.import_module(f"stream_vl_ros.bench.{bench}")
    with pytest.raises(SystemExit) as raised:
        module.main([option, value])
    assert raised.value.code == 2
    said = capsys.readouterr().err
    assert f"argument {option}: '{value}': give a" in said


def test_a_model_that_cannot_be_loaded_is_a_line():
    command = [sys.executable, "-m", "stream_vl_ros.bench.watches", "--model", "/no/such"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 2 and "Traceback" not in ran.stderr
    assert "watches: " in ran.stderr and "/no/such" in ran.stderr
