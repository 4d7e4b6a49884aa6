"""Compressed parts of a bag, decompressed up to a limit: a few kilobytes can claim, or become, any number of gigabytes.

rosbags decompresses chunks with the functions of a table, which are told the size that the chunk declares and do not
look at it. `bound_chunks` puts functions there that do.
"""

from __future__ import annotations

import mmap
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import lz4.frame
from rosbags.rosbag2 import storage_mcap

from stream_vl_ros.engine.units import MIB
from stream_vl_ros.errors import BagError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# The largest image that is read, 8192x8192 pixels of 8 bytes, and what lies around it.
MAX_MESSAGE = 513 * MIB
# Recorders begin a chunk when the last one has a few MiB; one large image is in it as a whole.
MAX_CHUNK = 2 * MAX_MESSAGE
# Decompressed at once: the decompressors hold what they give back twice.
_PIECE = 16 * MIB
# Of the free space in the temporary folder, what a bag that is compressed as a file may take.
_SHARE = 0.9


def bound_chunks() -> None:
    """Let the library decompress no chunk to more than it declares, and none that declares too much."""
    storage_mcap.DECOMPRESSORS.update(zstd=_chunk(zstd.ZstdDecompressor), lz4=_chunk(lz4.frame.LZ4FrameDecompressor))


def decompressed_message(data: bytes) -> bytes:
    """A message that was compressed by itself. Raises `BagError` if it becomes too large, or ends too early."""
    return _decompressed(zstd.ZstdDecompressor, data, MAX_MESSAGE)


def check_files(files: Iterable[Path], room: int | None = None) -> None:
    """Raise `BagError` if these files, each compressed as a whole, do not fit into the temporary folder.

    `room` is how many bytes may be used there, if it is not to be asked.
    """
    folder = tempfile.gettempdir()
    room = int(shutil.disk_usage(folder).free * _SHARE) if room is None else room
    left = room
    for file in files:
        left -= _size(file, left)
        if left < 0:
            raise BagError(
                f"File {str(file)!r} has {file.stat().st_size / MIB:.1f} MiB and becomes more than the "
                f"{room / MIB:.0f} MiB that may be used in {folder}; set TMPDIR to a folder with more room, or do not "
                "trust the bag."
            )


def _chunk(make: Callable[[], Any]) -> Callable[[bytes, int], bytes]:
    def decompress(data: bytes, size: int) -> bytes:
        if size > MAX_CHUNK:
            raise BagError(f"A chunk declares {size} bytes, more than the {MAX_CHUNK} that are read at once.")
        return _decompressed(make, data, size)

    return decompress


def _decompressed(make: Callable[[], Any], data: bytes, limit: int) -> bytes:
    """All frames in `data`, one after the other."""
    parts: list[bytes] = []
    room = limit
    while data:
        decompressor = make()
        part = decompressor.decompress(data, max_length=_PIECE)
        while part:
            room -= len(part)
            if room < 0:
                raise BagError(f"{len(data)} compressed bytes become more than the {limit} that they may.")
            parts.append(part)
            part = b"" if decompressor.eof else decompressor.decompress(b"", max_length=_PIECE)
        if not decompressor.eof:
            raise BagError(f"{len(data)} compressed bytes end too early.")
        data = decompressor.unused_data
    return b"".join(parts)


def _size(file: Path, limit: int) -> int:
    """Bytes that a file becomes, or at least more than `limit`: as its frames say, or else by trying."""
    if file.stat().st_size == 0:
        return 0
    total = 0
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        view = memoryview(whole)
        try:
            while len(view):
                declared = cast("int | None", zstd.get_frame_info(view).decompressed_size)
                if declared is None:
                    break
                total += declared
                rest = view[zstd.get_frame_size(view) :]
                view.release()
                view = rest
            else:
                return total
        except zstd.ZstdError as error:
            raise BagError(f"File {str(file)!r} is damaged: {error}") from error
        finally:
            view.release()
    return _counted(file, limit)


def _counted(file: Path, limit: int) -> int:
    total = 0
    try:
        with zstd.open(file, "rb") as stream:
            while total <= limit and (block := stream.read(MIB)):
                total += len(block)
    except (zstd.ZstdError, EOFError) as error:
        raise BagError(f"File {str(file)!r} is damaged: {error}") from error
    return total
