"""memory.json: its version, its checksum, and all that it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from stream_vl_ros.engine.saved.fields import Fields
from stream_vl_ros.errors import SavedMemoryError

FORMAT = "stream_vl_ros memory"
VERSION = 1
# Bytes of JSON that are read at the most: a system prompt is what may be long in it.
LONGEST = 4 * 2**20


def sealed(memory: Mapping[str, object]) -> bytes:
    """The text of the file that says `memory`."""
    whole = {"format": FORMAT, "version": VERSION, "sha256": _checksum(memory), "memory": memory}
    return (json.dumps(whole, indent=2, allow_nan=False) + "\n").encode()


def opened(text: bytes) -> Fields:
    """What such a file says.

    Raises:
        SavedMemoryError: ``damaged``, ``version`` or ``checksum``.
    """
    whole = Fields.parse(text)
    if whole.text("format") != FORMAT:
        raise SavedMemoryError("damaged", f"memory.json is of another kind of file: its format is not {FORMAT!r}")
    version = whole.integer("version")
    if version != VERSION:
        raise SavedMemoryError(
            "version",
            f"it is of version {version} of the format, and this release reads version {VERSION}; save it anew with "
            "this release, or load it with the one that wrote it",
        )
    checksum, memory = whole.text("sha256"), whole.inner("memory")
    whole.end()
    if checksum != _checksum(memory.whole):
        raise SavedMemoryError("checksum", "the checksum of memory.json is wrong: it was changed or damaged")
    memory.path = "memory"
    return memory


def _checksum(memory: Mapping[str, object]) -> str:
    """Of the contents, however they are laid out."""
    text = json.dumps(memory, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
