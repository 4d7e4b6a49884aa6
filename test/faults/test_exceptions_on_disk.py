"""An exception that nobody foresaw while a memory is saved or loaded: said to the caller, and nothing is half done."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty import CHUNK, RIGHT, Engine, fault, forget_tracebacks, full_caches

from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.saved import memory_file, place, tensor_file
from stream_vl_ros.engine.saved.contents import Contents
from stream_vl_ros.engine.stream import VideoStream
from stream_vl_ros.errors import RequestError

ERROR = ValueError("out of the blue")
SAID = "could not do it: ValueError: out of the blue"
SAVING = {
    "moment": (VideoStream, "snapshot"),
    "describing": (memory_file, "described"),
    "identity": (memory_file, "identity"),
    "tensors": (tensor_file, "write"),
    "sealing": (memory_file, "sealed"),
    "memory.json": (place, "put_json"),
}
LOADING = {
    "memory.json": (place, "read_json"),
    "opening": (memory_file, "opened"),
    "understanding": (memory_file, "understood"),
    "identity": (memory_file, "identity"),
    "tensors": (tensor_file, "read"),
    "going back": (VideoStream, "restore"),
    "taking in": (KVCache, "restore"),
}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def signature(engine: Engine) -> str:
    return engine.runner.call(lambda stream: stream.signature()).result(20)


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("stage", SAVING)
def test_saving(engine: Engine, stage, again, tmp_path, caplog):
    folder = tmp_path / "kitchen"
    if again:
        engine.runner.save(folder).result(20)
        engine.show()
    there, before, caches = files(tmp_path), signature(engine), full_caches()
    with fault(*SAVING[stage], ERROR) as raised, pytest.raises(RequestError, match=SAID):
        engine.runner.save(folder).result(20)
    assert raised.raised == 1 and "out of the blue" in caplog.text
    forget_tracebacks(caplog)
    assert files(tmp_path) == there and folder.exists() == again, "what was there is whole, and nothing is left over"
    assert (signature(engine), full_caches()) == (before, caches)
    assert engine.ask() == RIGHT
    engine.runner.save(folder).result(20)
    engine.show()
    engine.runner.load(folder).result(20)
    assert signature(engine) == before
    engine.well()


@pytest.mark.parametrize("stage", LOADING)
def test_loading(engine: Engine, stage, tmp_path, caplog):
    saved = signature(engine)
    engine.runner.save(tmp_path / "kitchen").result(20)
    engine.show()
    there, before, caches = files(tmp_path), signature(engine), full_caches()
    frames = engine.runner.status().frames
    with fault(*LOADING[stage], ERROR) as raised, pytest.raises(RequestError, match=SAID):
        engine.runner.load(tmp_path / "kitchen").result(20)
    assert raised.raised == 1 and "out of the blue" in caplog.text
    forget_tracebacks(caplog)
    assert files(tmp_path) == there
    assert (signature(engine), engine.runner.status().frames, full_caches()) == (before, frames, caches)
    engine.well()
    engine.runner.load(tmp_path / "kitchen").result(20)
    assert signature(engine) == saved
    engine.well()


def test_tensors_that_cannot_be_made_a_moment_of(engine: Engine, tmp_path, monkeypatch):
    """All was read and checked, and what makes the stream's moment of it fails."""
    engine.runner.save(tmp_path / "kitchen").result(20)
    engine.show()
    before, understood = signature(engine), memory_file.understood

    def spoilt(*args: object) -> Contents:
        contents = understood(*args)
        object.__setattr__(contents, "snapshot", lambda _: [][CHUNK])
        return contents

    monkeypatch.setattr(memory_file, "understood", spoilt)
    with pytest.raises(RequestError, match="could not do it: IndexError: list index out of range"):
        engine.runner.load(tmp_path / "kitchen").result(20)
    monkeypatch.undo()
    assert signature(engine) == before
    engine.runner.load(tmp_path / "kitchen").result(20)
    engine.well()
