"""The history on disk: a file for each entry, so that nothing is ever written anew but what has changed."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

from stream_vl_ros.errors import WebError
from stream_vl_ros.web.history import Entry
from stream_vl_ros.web.moments import Moment

_log = logging.getLogger(__name__)
_KNOWN = {f.name for f in dataclasses.fields(Entry)}


class Store:
    """A folder of entries. Files that are no entries are left alone."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, readable for its owner alone.

        Raises:
            WebError: it cannot be written to.
        """
        self._folder = folder
        self._failed = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / ".tmp").write_bytes(b"")
        except OSError as error:
            raise WebError(
                f"parameter history_folder={str(folder)!r}: cannot be written to ({error.strerror}); choose another"
            ) from error

    def load(self, limit: int) -> list[Entry]:
        """The newest `limit` entries that can be read, in the order of their ids; older ones are removed."""
        entries = []
        for file in self._folder.glob("entry-*.json"):
            try:
                entries.append(_decoded(json.loads(file.read_text())))
            except (OSError, ValueError, TypeError, KeyError) as error:
                _log.warning("history file %s is left out: %s", file, error)
        entries.sort(key=lambda entry: entry.id)
        for entry in entries[:-limit]:
            self.drop(entry)
        return entries[-limit:]

    def save(self, entry: Entry) -> None:
        """Write an entry whose state is final; others would be outdated at once."""
        if not entry.is_final:
            return
        scratch = self._folder / ".tmp"
        try:
            scratch.write_text(json.dumps(_encoded(entry)))
            scratch.replace(self._file(entry))
        except OSError as error:
            self._tell(error)

    def drop(self, entry: Entry) -> None:
        """Remove an entry."""
        try:
            self._file(entry).unlink(missing_ok=True)
        except OSError as error:
            self._tell(error)

    def _file(self, entry: Entry) -> Path:
        return self._folder / f"entry-{entry.id:08d}.json"

    def _tell(self, error: OSError) -> None:
        # Once: a full disk would fill the log as well.
        if not self._failed:
            _log.error("the history cannot be kept in %s: %s", self._folder, error)
        self._failed = True


def _encoded(entry: Entry) -> dict[str, object]:
    values = {name: getattr(entry, name) for name in _KNOWN - {"moments"}}
    values["scores"] = [s if math.isfinite(s) else None for s in entry.scores]
    values["moments"] = [[m.stamp, base64.b64encode(m.jpeg).decode()] for m in entry.moments]
    return values


def _decoded(values: dict[str, Any]) -> Entry:
    known = {name: value for name, value in values.items() if name in _KNOWN}
    known["choices"] = tuple(known["choices"])
    known["scores"] = tuple(math.nan if s is None else float(s) for s in known["scores"])
    known["moments"] = tuple(Moment(int(stamp), base64.b64decode(jpeg)) for stamp, jpeg in known["moments"])
    entry = Entry(**known)
    if not isinstance(entry.id, int) or not entry.is_final:
        raise ValueError(f"no finished entry: id {entry.id!r}, state {entry.state!r}")
    return entry
