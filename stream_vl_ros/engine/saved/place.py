"""The folder of one saved memory: held while it is used, replaced as a whole, cleared of what crashed saves left.

A memory is `NAME/memory.json` and the file of tensors that it names. A new one is written beside the old one under
another name; the old one is replaced in the moment in which memory.json is, by a rename.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from stream_vl_ros.engine.saved.document import LONGEST
from stream_vl_ros.errors import SavedMemoryError

JSON = "memory.json"
# Names that this writes, the finished and the unfinished. Nothing else is ever removed.
TENSORS = re.compile(r"tensors-[0-9a-f]{16}\.safetensors")
_OURS = re.compile(rf"{TENSORS.pattern}|memory-[0-9a-f]{{16}}\.json")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def hold(path: Path, *, write: bool) -> Iterator[int]:
    """The folder of a memory as a file descriptor: no other process writes it meanwhile or, with `write`, reads it.

    With `write` it is made if it is not there, and removed afterwards if nothing is in it. Where the file system knows
    no locks, nobody is kept from it.

    Raises:
        SavedMemoryError: if it is not there, or is no folder of its own.
        OSError: for anything else.
    """
    while True:
        if write:
            _make(path)
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if write:  # another one made and removed it
                continue
            raise SavedMemoryError("missing", f"there is no such saved memory; {_known(path.parent)}") from None
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise SavedMemoryError("name", "it is a file or a symbolic link, and no folder of a memory") from error
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
            if write and not _is_there(path, folder):  # removed while it was waited for
                continue
            try:
                yield folder
            finally:
                if write:
                    with contextlib.suppress(OSError):
                        path.rmdir()
            return
        finally:
            os.close(folder)


def read_json(folder: int) -> bytes:
    """The text of memory.json."""
    with open_file(folder, JSON) as file:
        size = os.fstat(file).st_size
        if size > LONGEST:
            raise SavedMemoryError("damaged", f"memory.json has {size} bytes: none that was saved here is as long")
        return os.read(file, LONGEST)


@contextlib.contextmanager
def open_file(folder: int, name: str) -> Iterator[int]:
    """A regular file in the folder, to be read."""
    try:
        # A pipe would wait for its other end.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise SavedMemoryError("damaged", f"there is no {name} in it") from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise SavedMemoryError("damaged", f"{name} is a symbolic link") from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise SavedMemoryError("damaged", f"{name} is no regular file")
        yield file
    finally:
        os.close(file)


def check_free(folder: int) -> None:
    """Raise `SavedMemoryError` (``name``) for a folder that somebody else uses for something else."""
    names = os.listdir(folder)
    others = [name for name in names if not _OURS.fullmatch(name)]
    if JSON not in names and others:
        raise SavedMemoryError("name", f"it is a folder of something else: {others[0]!r} is in it; take another name")


def new_tensors() -> str:
    """A name for a new file of tensors."""
    return f"tensors-{secrets.token_hex(8)}.safetensors"


@contextlib.contextmanager
def new_file(folder: int, name: str) -> Iterator[int]:
    """A new file in the folder, to be written; it is on the disk afterwards, or not there if that failed."""
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        try:
            yield file
            os.fsync(file)
        finally:
            os.close(file)
    except BaseException:
        remove(folder, name)
        raise


def put_json(folder: int, text: bytes) -> None:
    """Replace memory.json: it is the old one, or the new one, at any moment. The new one, if nothing is raised."""
    name = f"memory-{secrets.token_hex(8)}.json"
    with new_file(folder, name) as file:
        left = memoryview(text)
        while left.nbytes:
            left = left[os.write(file, left) :]
    try:
        os.rename(name, JSON, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        remove(folder, name)
        raise


def clear(folder: int, keep: str) -> None:
    """Remove what earlier saves left, finished or not, but `keep` and memory.json."""
    for name in os.listdir(folder):
        if _OURS.fullmatch(name) and name != keep:
            remove(folder, name)


def remove(folder: int, name: str) -> None:
    """Remove a file, if that can be done."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def told(path: Path, doing: str) -> Iterator[None]:
    """Errors from inside as `SavedMemoryError` that begin with what was being done, e.g. ``"saved"``."""
    try:
        yield
    except SavedMemoryError as error:
        raise SavedMemoryError(error.reason, f"memory {str(path)!r} cannot be {doing}: {error}") from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _NO_ROOM:
            raise SavedMemoryError(
                "disk_full",
                f"memory {str(path)!r} cannot be {doing}: {why}; an earlier one of that name is as it was: free some "
                "space, or choose another folder",
            ) from error
        raise SavedMemoryError(
            "unwritable" if doing == "saved" else "unreadable",
            f"memory {str(path)!r} cannot be {doing}: {why}; check the folder and its permissions",
        ) from error


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def _is_there(path: Path, folder: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(folder))
    except FileNotFoundError:
        return False


def _known(folder: Path) -> str:
    try:
        names = sorted(p.parent.name for p in folder.glob(f"*/{JSON}"))
    except OSError:
        names = []
    return f"in {str(folder)!r} are {', '.join(map(repr, names[:20])) or 'none'}"
