"""The numbers of docs/security.md are those of the code, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream_vl_ros import brief
from stream_vl_ros.bag import ask_settings, bounds
from stream_vl_ros.engine import constrained, memories, pictures, prompt, watch
from stream_vl_ros.engine.question import MIN_TEMPERATURE
from stream_vl_ros.ros import compressed
from stream_vl_ros.ros.image_options import DEFAULTS
from stream_vl_ros.ros.parameters import PARAMETERS

ROOT = Path(__file__).parents[2]
LIMITS = (ROOT / "docs" / "security.md").read_text()
HIGH = {p.name: p.high for p in PARAMETERS}


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("pixels of a picture", (DEFAULTS.max_pixels // 8192, 8192)),
        ("sides of a picture", (pictures.MAX_ASPECT_RATIO,)),
        ("scans of a JPEG", (compressed._MAX_SCANS,)),
        ("characters of a question", (prompt.MAX_CHARACTERS, prompt.MAX_TOKENS)),
        ("choices", (prompt.MAX_CHOICES,)),
        ("characters of a regular expression", (constrained.MAX_GRAMMAR_CHARACTERS,)),
        ("length of an answer", (int(HIGH["max_new_tokens"] or 0), int(HIGH["ask_timeout"] or 0))),
        ("memories under names", (memories.MAX_MEMORIES, memories.MAX_NAME)),
        ("watches", (watch.MAX_BYTES,)),
        ("a reason in a response", (brief.MAX_REASON,)),
        ("a message of a bag", (bounds.MAX_MESSAGE >> 20, bounds.MAX_CHUNK >> 20)),
        ("parameters in a file", (ask_settings._MOST,)),
    ],
)
def test_limits(row, numbers):
    (line,) = re.findall(rf"^\| {row}.*$", LIMITS, re.MULTILINE)
    found = {int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", line)}
    assert set(numbers) <= found, line


def test_a_small_temperature_is_documented():
    assert f"{MIN_TEMPERATURE:.4f}" in (ROOT / "stream_vl_ros" / "engine" / "question.py").read_text()


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/security.md"])
def test_what_is_named_exists(document):
    text = (ROOT / document).read_text()
    folder = (ROOT / document).parent
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (folder / link).exists(), link
    for name in re.findall(r"`((?:ros|engine|bag)/\w+\.py|brief\.py)`", text):
        assert (ROOT / "stream_vl_ros" / name).exists(), name
    for name in re.findall(r"`((?:test|config)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name


# Fields whose name says that they hold a path; each needs a test that it stays within its folder.
PATHS = re.compile(r"path|file|folder|director|url|uri", re.IGNORECASE)
CONFINED: dict[str, str] = {}


def test_no_request_names_a_file():
    """A new one must be confined to a configured folder, and be listed above with the test that tries to leave it."""
    for file in sorted([*(ROOT / "srv").iterdir(), *(ROOT / "action").iterdir()]):
        request = file.read_text().partition("\n---")[0]
        for line in request.splitlines():
            field = line.split("#")[0].split()
            if len(field) > 1 and PATHS.search(field[1]):
                assert f"{file.stem}.{field[1]}" in CONFINED, line
