"""Saving a stream's memory, and getting it back: in another process, on another device, as if it had gone on."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stream_vl_ros.engine.config import StreamConfig
from stream_vl_ros.engine.loader import LoadedModel
from stream_vl_ros.engine.saved import place, tensor_file
from stream_vl_ros.engine.saved.belonging import other_settings
from stream_vl_ros.engine.saved.contents import ON_DEVICE, StreamMoment, described, understood
from stream_vl_ros.engine.saved.document import opened, sealed
from stream_vl_ros.engine.saved.identity import config_checksum, identity
from stream_vl_ros.engine.saved.tensor_file import Turn, at_once
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.engine.stream_records import StreamSnapshot
from stream_vl_ros.errors import RequestError, SavedMemoryError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SavedMemory:
    """A memory on disk.

    Attributes:
        folder: its folder.
        tokens: in the KV cache.
        frames: that the stream had seen, those that waited for their chunk not included.
        bytes: of its files.
        seconds: that it took to write or to read it.
    """

    folder: Path
    tokens: int
    frames: int
    bytes: int
    seconds: float


def save_memory(stream: VideoStream, folder: str | os.PathLike[str]) -> SavedMemory:
    """Write a stream's memory to a folder of its own. The stream does not change.

    All of it is written: what the KV cache holds, the frames that wait for their chunk, positions and cadence. A memory
    that is there is replaced at once when the new one is on the disk, and stays whole if anything fails. Dialogues and
    standing questions are not part of it.

    >>> import tempfile
    >>> from stream_vl_ros.demo.scene import demo_clip
    >>> from stream_vl_ros.engine import VideoStream, load_memory, load_model, save_memory
    >>> model = load_model("embedded", device="cpu")
    >>> frames, stamps = demo_clip()
    >>> stream = VideoStream(model)
    >>> chunks = stream.append(frames[:40], stamps[:40])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = save_memory(stream, f"{folder}/kitchen")
    ...     later = VideoStream(model)  # in another process, at another time
    ...     later.restore(load_memory(model, f"{folder}/kitchen"))
    >>> later.ask("What is visible now?").text
    'a red circle, a blue square'

    Raises:
        RequestError: before the first frame.
        SavedMemoryError: if it cannot be written, with the reason.
    """
    return write(moment_of(stream), folder)


def load_memory(model: LoadedModel, folder: str | os.PathLike[str]) -> StreamSnapshot:
    """Read a memory for `VideoStream.restore`, of a stream on the model that it was saved with, on any device.

    Everything is checked before anything is used: model, dtype, prompt, version, checksums, and whether it all fits
    together.

    Raises:
        SavedMemoryError: with the reason.
    """
    return read(model, folder)[0]


def moment_of(stream: VideoStream) -> StreamMoment:
    """What is to be saved of a stream; copies nothing. Raises `RequestError` before the first frame."""
    if not stream.frames and not stream.pending:
        raise RequestError("no video yet: there is nothing to save")
    return StreamMoment(stream.model, stream.config, stream.snapshot())


def write(moment: StreamMoment, folder: str | os.PathLike[str], turn: Turn = at_once) -> SavedMemory:
    """Write a moment, see `save_memory`; from any thread, if `turn` lets it use the model's device."""
    started, path = time.perf_counter(), Path(folder)
    with place.told(path, "saved"):
        contents, tensors = described(moment, identity(moment.model, turn))
        with place.hold(path, write=True) as held:
            place.check_free(held)
            _clear_crashed(held)
            name = place.new_tensors()
            with place.new_file(held, name) as file:
                digest = tensor_file.write(file, tensors, turn)
                size = os.fstat(file).st_size
            try:
                text = sealed({**contents, "tensors": name, "sha256": digest})
                place.put_json(held, text)
            except BaseException:
                place.remove(held, name)
                raise
            # It is in place. Whether the folder itself is on the disk already cannot be made sure of everywhere.
            with contextlib.suppress(OSError):
                os.fsync(held)
            place.clear(held, keep=name)
    cache, state = moment.snapshot.cache, moment.snapshot.state
    done = SavedMemory(path, cache.length, state.frames, size + len(text), time.perf_counter() - started)
    log.info("saved %s: %d tokens, %.1f MB in %.2f s", path, done.tokens, done.bytes / 1e6, done.seconds)
    return done


def read(
    model: LoadedModel, folder: str | os.PathLike[str], turn: Turn = at_once
) -> tuple[StreamSnapshot, Callable[[StreamConfig], SavedMemory]]:
    """Read a moment, see `load_memory`; from any thread, if `turn` lets it use the model's device.

    Returns it, and what makes the account of it once a stream of certain settings uses it.
    """
    started, path = time.perf_counter(), Path(folder)
    with place.told(path, "loaded"), place.hold(path, write=False) as held:
        text = place.read_json(held)
        contents = understood(opened(text), model, config_checksum(model))
        if not place.TENSORS.fullmatch(contents.tensors):
            raise SavedMemoryError("damaged", f"memory.tensors={contents.tensors[:80]!r}: no name that is written here")
        with place.open_file(held, contents.tensors) as file:
            size = os.fstat(file).st_size
            if identity(model, turn).weights != contents.weights:
                raise SavedMemoryError(
                    "model",
                    f"it belongs to the model {contents.name!r}, and {model.name!r} has other weights: load that model",
                )
            tensors, digest = tensor_file.read(file, contents.specs)
        if digest != contents.sha256:
            raise SavedMemoryError("checksum", "the checksum of its tensors is wrong: the file was changed or damaged")
        for name in ON_DEVICE & tensors.keys():
            tensors[name] = turn(functools.partial(tensors[name].to, model.adapter.device))
        snapshot = contents.snapshot(tensors)

    def account(now: StreamConfig) -> SavedMemory:
        seconds = time.perf_counter() - started
        done = SavedMemory(path, contents.tokens, contents.frames, size + len(text), seconds)
        log.info("loaded %s: %d tokens, %.1f MB in %.2f s", path, done.tokens, done.bytes / 1e6, seconds)
        if others := other_settings(contents.settings, now):
            log.warning("%s was saved with other settings, and follows the present ones: %s", path, others)
        return done

    return snapshot, account


def _clear_crashed(held: int) -> None:
    """Remove what saves left that never came to their end, if it is known what is not."""
    if place.JSON not in os.listdir(held):  # none ever did
        place.clear(held, keep="")
        return
    try:
        keep = opened(place.read_json(held)).text("tensors")
    except SavedMemoryError:
        return
    place.clear(held, keep)
