"""Recordings that were dropped on the page: kept in a temporary folder, and replayed by a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import lzma
import os
import shutil
import signal
import struct
import sys
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from stream_vl_ros.bag.recording import VIDEO_SUFFIXES
from stream_vl_ros.errors import WebError

BAG_SUFFIXES = frozenset({".mcap", ".db3"})
_MIB = 1 << 20
# The page's own subscription, and the node's.
_SUBSCRIBERS = 2
_WAIT = 20
_STOP_PATIENCE = 3.0
# A bag's folder has a handful of files.
_MEMBERS = 1000
# What zipfile and the decoders raise, besides OSError; ValueError for a name that is no text.
_DAMAGED = (
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, LookupError),
    *(zlib.error, lzma.LZMAError, struct.error),
)

_log = logging.getLogger(__name__)

State = Literal["uploading", "waiting", "playing", "done", "stopped", "failed"]


@dataclass(slots=True)
class Replay:
    """One recording on its way into a stream.

    Attributes:
        name: of the file, as its owner calls it.
        state: "waiting" for the node to subscribe.
        received, size: bytes of the upload; a size of 0 is not known.
        position, length: seconds of the recording; a length of 0 is not known.
        images: published so far.
        message: what went wrong, or how it ended.
    """

    stream: str
    topic: str
    name: str
    state: State = "uploading"
    received: int = 0
    size: int = 0
    position: float = 0.0
    length: float = 0.0
    images: int = 0
    message: str = ""

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "stopped", "failed")


class Replays:
    """At most one for each stream."""

    def __init__(self, limit_mib: int, changed: Callable[[Replay], None]) -> None:
        """Nothing is replayed yet.

        Args:
            limit_mib: what an upload may have, and what it may become when unpacked.
            changed: called with each replay that has changed.
        """
        self._limit, self._changed = limit_mib * _MIB, changed
        self._replays: dict[str, Replay] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="stream_vl_web_"))

    def check(self, stream: str, name: str, size: int) -> str:
        """What the file is by its name: its suffix.

        Raises:
            WebError: it is nothing that can be replayed, or too large, or something is replayed into this stream now.
        """
        running = self._replays.get(stream)
        if running is not None and not running.is_over:
            raise WebError(f"{running.name!r} is being replayed into this camera; stop it first.")
        # Only what is in these sets ever becomes a part of a path.
        suffix = PurePosixPath(name.lower()).suffix
        if suffix not in VIDEO_SUFFIXES | BAG_SUFFIXES | {".zip"}:
            raise WebError(
                f"{name!r} is neither a video nor a bag by its name: drop an .mcap or a .db3 file, a bag's "
                f"folder as .zip, or a video ({', '.join(sorted(VIDEO_SUFFIXES))})"
            )
        if size > self._limit:
            raise WebError(
                f"{name!r} has {size / _MIB:.0f} MiB, and no more than {self._limit // _MIB} MiB are taken; raise "
                "max_upload_mib, or replay it with `ros2 run stream_vl_ros replay`"
            )
        return suffix

    async def take(self, stream: str, topic: str, name: str, size: int, body: AsyncIterator[bytes]) -> None:
        """Receive a file and begin to replay it.

        Raises:
            WebError: see `check`; also if it is larger than it said, or no bag that can be unpacked.
        """
        suffix = self.check(stream, name, size)
        replay = Replay(stream, topic, name, size=size)
        self._replays[stream] = replay
        self._changed(replay)
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            file = folder / f"upload{suffix}"
            await self._receive(replay, file, body)
            if suffix == ".zip":
                file = await asyncio.to_thread(_unpacked, file, folder / "bag", self._limit)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            known = isinstance(error, (WebError, OSError))
            self._end(replay, "failed", str(error) if known else "The upload was interrupted.")
            if isinstance(error, OSError):
                raise WebError(f"{name!r} cannot be kept for its replay: {error.strerror}") from error
            raise
        replay.state = "waiting"
        self._changed(replay)
        self._tasks[stream] = asyncio.create_task(self._play(replay, file, folder))

    def stop(self, stream: str) -> None:
        """End a replay early."""
        process = self._processes.get(stream)
        if process is not None and process.returncode is None:
            self._replays[stream].message = "stopped"
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            asyncio.get_running_loop().call_later(_STOP_PATIENCE, _kill, process)

    async def close(self) -> None:
        """End everything, and remove all files."""
        for process in self._processes.values():
            _kill(process)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _receive(self, replay: Replay, file: Path, body: AsyncIterator[bytes]) -> None:
        told = 0
        with file.open("wb") as out:
            async for piece in body:
                replay.received += len(piece)
                if replay.received > self._limit:
                    raise WebError(f"{replay.name!r} has more than {self._limit // _MIB} MiB; raise max_upload_mib")
                await asyncio.to_thread(out.write, piece)
                if replay.received - told > _MIB:
                    told = replay.received
                    self._changed(replay)
        if not replay.received:
            raise WebError(f"{replay.name!r} is empty.")

    async def _play(self, replay: Replay, file: Path, folder: Path) -> None:
        # A process of its own: what a broken file does to a decoder stays there, and so does its load.
        command = [
            *(sys.executable, "-m", "stream_vl_ros.bag.replay", str(file), "--to", replay.topic),
            *("--wait-for-subscribers", str(_SUBSCRIBERS), "--wait-timeout", str(_WAIT), "--progress-json"),
        ]
        said: deque[str] = deque(maxlen=20)
        process: asyncio.subprocess.Process | None = None
        problem = "The replay was interrupted."
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(os.environ),
                start_new_session=True,
            )
            self._processes[replay.stream] = process
            assert process.stdout is not None and process.stderr is not None
            await asyncio.gather(self._follow(replay, process.stdout), _collect(process.stderr, said))
            code = await process.wait()
            if replay.message == "stopped":
                self._end(replay, "stopped", f"Stopped after {replay.images} images.")
            elif code in (0, 3):
                self._end(replay, "done", f"{replay.images} images were replayed.")
            else:
                words = next(
                    (line for line in said if line.startswith("replay: ")), said[-1] if said else "no reason given"
                )
                self._end(replay, "failed", words.removeprefix("replay: ").replace(str(file), replay.name))
        except Exception as error:
            problem = f"The replay went wrong: {type(error).__name__}: {error}"
            _log.exception("the replay of %r went wrong", replay.name)
        finally:
            if process is not None and process.returncode is None:
                _kill(process)
                # It is not told of as ended while something that nobody reads is left in its pipes.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), _STOP_PATIENCE)
            self._processes.pop(replay.stream, None)
            if not replay.is_over:
                self._end(replay, "failed", problem)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _follow(self, replay: Replay, lines: asyncio.StreamReader) -> None:
        start, told = 0.0, 0.0
        async for line in _lines(lines):
            try:
                event: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            kind = event.get("event")
            if kind == "started":
                start = event["start"]
                replay.state, replay.length = "playing", max(0.0, event["until"] - start)
            elif kind == "sent":
                replay.images, replay.position = event["number"], event["position"] - start
                if replay.position - told < 0.2:
                    continue
                told = replay.position
            else:
                continue
            self._changed(replay)

    def _end(self, replay: Replay, state: State, message: str) -> None:
        replay.state, replay.message = state, message
        self._changed(replay)


def document(replay: Replay) -> dict[str, Any]:
    """Plain values."""
    return asdict(replay)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """All lines but those that are longer than the reader keeps."""
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            continue
        if not line:
            return
        yield line


async def _collect(lines: asyncio.StreamReader, said: deque[str]) -> None:
    async for line in _lines(lines):
        said.append(line.decode(errors="replace").rstrip())


def _unpacked(file: Path, folder: Path, limit: int) -> Path:
    """The bag of a zip file: its metadata and its data files, under their bare names.

    Raises:
        WebError: it is no zip file, is damaged, holds no bag or too many files, or would become too large.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members, wanted = archive.infolist(), {}
            if len(members) > _MEMBERS:
                raise WebError(f"The zip file holds {len(members)} files, more than {_MEMBERS}; pack one bag alone.")
            for member in members:
                name = PurePosixPath(member.filename.replace("\\", "/")).name
                if not member.is_dir() and (name == "metadata.yaml" or PurePosixPath(name).suffix in BAG_SUFFIXES):
                    if name in wanted:
                        raise WebError(f"The zip file holds several files {name!r}; pack one bag alone.")
                    wanted[name] = member
            if not any(PurePosixPath(name).suffix in BAG_SUFFIXES for name in wanted):
                raise WebError("The zip file holds no bag: there is no .mcap and no .db3 file in it.")
            if sum(member.file_size for member in wanted.values()) > limit:
                raise WebError(f"The bag in the zip file has more than {limit // _MIB} MiB; raise max_upload_mib.")
            folder.mkdir()
            for name, member in wanted.items():
                with archive.open(member) as source, (folder / name).open("wb") as out:
                    shutil.copyfileobj(source, out)
    except _DAMAGED as error:
        raise WebError(f"The zip file cannot be read: {error or 'it ends too early'}") from error
    except OSError as error:
        # What bz2 says of damaged data, and a place before the file's beginning.
        if error.errno in (None, errno.EINVAL):
            raise WebError(f"The zip file cannot be read: {error}") from error
        raise
    file.unlink()
    if "metadata.yaml" in wanted:
        return folder
    if len(wanted) > 1:
        raise WebError("The zip file holds several bag files but no metadata.yaml; pack the bag's whole folder.")
    return folder / next(iter(wanted))
