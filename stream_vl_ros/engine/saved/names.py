"""Names of saved memories: each is one folder in one folder, wherever that is."""

from __future__ import annotations

from pathlib import Path

from stream_vl_ros.errors import SavedMemoryError

MAX_NAME = 128


def named(folder: Path, name: str) -> Path:
    """The folder of the memory of this name.

    Raises `SavedMemoryError` (``name``) for what is no plain name: nothing that a name says leads out of `folder`.
    """
    plain = (
        name.isprintable()
        and name == name.strip()
        and not name.startswith(".")
        and not set(name) & {"/", "\\"}
        and 1 <= len(name.encode()) <= MAX_NAME
    )
    if not plain:
        raise SavedMemoryError(
            "name",
            f"name={name[:80]!r}: give a saved memory a plain name of 1 to {MAX_NAME} bytes, without '/', '\\', "
            "control characters, a dot at its beginning, or spaces around it",
        )
    return folder / name
