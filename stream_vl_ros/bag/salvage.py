"""What can still be read of a damaged bag file, in words, for error messages."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from stream_vl_ros.brief import brief

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_SQLITE_MAGIC = b"SQLite format 3\x00"
_MESSAGE, _CHUNK, _MESSAGE_INDEX, _FOOTER = 0x05, 0x06, 0x07, 0x02


@dataclass(frozen=True, slots=True)
class Readable:
    """The undamaged beginning of a file.

    Attributes:
        messages: whole messages of all topics.
        first, last: their earliest and latest log time, nanoseconds; None without messages.
        where: the point where reading ended, in words.
    """

    messages: int
    first: int | None
    last: int | None
    where: str

    def __str__(self) -> str:
        if self.first is None or self.last is None:
            return f"Nothing is readable: {self.where}."
        seconds = (self.last - self.first) / 1e9
        return f"Readable are {self.messages} messages over {seconds:.2f} s; {self.where}."


def describe_damage(path: Path) -> str:
    """What is readable of `path` (a bag folder or one of its files), and how to save it. Never raises."""
    files = sorted(f for f in path.iterdir() if f.suffix in {".mcap", ".db3"}) if path.is_dir() else [path]
    parts = []
    for file in files:
        try:
            readable, hint = _survey(file)
        except Exception as err:  # sizes and times can be anything, also no numbers
            parts.append(f"{file.name}: not readable ({type(err).__name__}: {brief(str(err), 200)}).")
            continue
        parts.append(f"{file.name}: {readable} {hint}".strip())
    return " ".join(parts) or "The folder holds no .mcap or .db3 file."


def _survey(file: Path) -> tuple[Readable | str, str]:
    with file.open("rb") as stream:
        magic = stream.read(16)
    if not magic:
        return "the file is empty.", ""
    if magic.startswith(_MCAP_MAGIC):
        name = file.stem
        return survey_mcap(file), f"`mcap recover {file.name} -o {name}-recovered.mcap` saves them."
    if magic == _SQLITE_MAGIC:
        return survey_sqlite(file), f"`sqlite3 {file.name} .recover | sqlite3 recovered.db3` saves them."
    return f"the file starts with {magic[:8].hex(' ')}, which is neither mcap nor sqlite3.", ""


def survey_mcap(file: Path) -> Readable:
    """Count the messages of complete records from the front of an mcap file."""
    size = file.stat().st_size
    times: list[int] = []
    where = f"the file ends cleanly after {size} bytes"
    for code, offset, body in _mcap_records(file):
        if body is None:
            where = f"it breaks off in a record at byte {offset} of {size}"
            break
        if code == _MESSAGE:
            times.append(struct.unpack_from("<HIQ", body)[2])
        elif code == _MESSAGE_INDEX:
            (length,) = struct.unpack_from("<I", body, 2)
            times.extend(time for time, _ in struct.iter_unpack("<QQ", body[6 : 6 + length]))
    return Readable(len(times), min(times, default=None), max(times, default=None), where)


def _mcap_records(file: Path) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield code, offset and content of every record; content None where the file breaks off."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(len(_MCAP_MAGIC))
        while (offset := stream.tell()) < size:
            head = stream.read(9)
            if len(head) < 9:
                # The closing magic is shorter than a record's head.
                if head != _MCAP_MAGIC:
                    yield 0, offset, None
                return
            code, length = head[0], int.from_bytes(head[1:], "little")
            if code == 0 or offset + 9 + length > size:
                yield code, offset, None
                return
            if code == _CHUNK:
                # Its messages are counted by the index records behind it; a chunk is skipped, not decompressed.
                stream.seek(length, 1)
                yield code, offset, b""
            else:
                yield code, offset, stream.read(length)


def survey_sqlite(file: Path) -> Readable:
    """Count the rows that an sqlite3 bag gives before it fails."""
    times: list[int] = []
    where = "all rows can be read"
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as db:
            # The data column is touched so that a row with a missing page counts as lost.
            for time, _ in db.execute("SELECT timestamp, length(data) + hex(substr(data, -1)) FROM messages"):
                times.append(int(time))
    except sqlite3.Error as err:
        where = f"then sqlite3 says {str(err)!r}"
    return Readable(len(times), min(times, default=None), max(times, default=None), where)
