"""Uploads, without ROS: names, sizes, zip files."""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.errors import WebError
from stream_vl_ros.web import replays as module
from stream_vl_ros.web.replays import Replay, Replays, _unpacked

DEMO = Path(__file__).parents[2] / "stream_vl_ros" / "data" / "demo_bag"
MIB = 1 << 20


def zipped(method: int = zipfile.ZIP_DEFLATED, **files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def damaged(method: int, at: int = 0, until: int = 40) -> bytes:
    """Its list of files is whole, and a part of what it holds is not."""
    data = bytearray(zipped(method, **{"a.mcap": bytes(range(256)) * 64}))
    begin = 30 + len("a.mcap")  # of the data
    data[begin + at : begin + until] = b"\xff" * (until - at)
    return bytes(data)


def demo(prefix: str) -> dict[str, bytes]:
    return {f"{prefix}{p.name}": p.read_bytes() for p in DEMO.iterdir() if p.suffix in (".mcap", ".yaml")}


@pytest.mark.parametrize("prefix", ["", "demo_bag/", "../../../tmp/", "/etc/", "a\\b\\"])
def test_a_zipped_bag_stays_in_its_folder(tmp_path, prefix):
    file = tmp_path / "upload.zip"
    file.write_bytes(zipped(**demo(prefix), **{"../evil.sh": b"x", "README": b"x"}))
    bag = _unpacked(file, tmp_path / "bag", 100 * MIB)
    with BagReader(bag) as reader:
        assert reader.image_topic().count == 96
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["demo_bag.mcap", "metadata.yaml"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no zip", "cannot be read"),
        (zipped(README=b"x"), "holds no bag"),
        (zipped(**{"a.mcap": b"x" * 3 * MIB}), "more than 2 MiB"),
        (zipped(**{"a/x.db3": b"x", "b/x.db3": b"x"}), "several files 'x.db3'"),
        (zipped(**{"a.db3": b"x", "b.db3": b"x"}), "no metadata.yaml"),
        (zipped(**{f"{n}.txt": b"" for n in range(1001)}, **{"a.mcap": b"x"}), "holds 1002 files, more than 1000"),
        (zipped(**{"\u00e4.mcap": b"x"}).replace("\u00e4".encode(), b"\xff\xff"), "cannot be read: 'utf-8' codec"),
        (damaged(zipfile.ZIP_DEFLATED), "cannot be read: Error -3"),
        (damaged(zipfile.ZIP_BZIP2), "cannot be read: Invalid data stream"),
        (damaged(zipfile.ZIP_LZMA, at=9), "cannot be read: Corrupt input data"),
    ],
)
def test_other_zip_files(tmp_path, data, words):
    (tmp_path / "upload.zip").write_bytes(data)
    with pytest.raises(WebError, match=words):
        _unpacked(tmp_path / "upload.zip", tmp_path / "bag", 2 * MIB)


def test_what_is_taken():
    replays = Replays(2, lambda replay: None)
    assert replays.check("", "a/../B.MP4", 5) == ".mp4" and replays.check("", "x.tar.db3", 0) == ".db3"
    for name, size, words in (
        ("x.sh", 1, "neither a video nor a bag"),
        ("mp4", 1, "neither"),
        ("a.mcap", 3 * MIB, "no more than 2 MiB"),
    ):
        with pytest.raises(WebError, match=words):
            replays.check("", name, size)
    asyncio.run(replays.close())


def test_one_that_is_larger_than_it_said_or_breaks_off_leaves_nothing():
    async def pieces(count: int, error: Exception | None = None) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * MIB
        if error is not None:
            raise error

    async def run() -> None:
        told = []
        replays = Replays(2, lambda replay: told.append((replay.state, replay.message)))
        with pytest.raises(WebError, match="more than 2 MiB"):
            await replays.take("", "/t", "a.mcap", 0, pieces(5))
        with pytest.raises(WebError, match="is empty"):
            await replays.take("", "/t", "a.mcap", 0, pieces(0))
        with pytest.raises(ZeroDivisionError):
            await replays.take("", "/t", "a.mcap", 0, pieces(1, ZeroDivisionError()))
        assert [m for s, m in told if s == "failed"][-1] == "The upload was interrupted."
        assert list(replays._folder.iterdir()) == []
        await replays.close()
        assert not replays._folder.exists()

    asyncio.run(run())


class Stub:
    """Replays with a shell script in the place of the program that replays."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
        program = folder / "program"
        if script:
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(program))
        self.told: list[Replay] = []
        self.replays = Replays(2, self.told.append)

    async def begin(self) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"x"

        await self.replays.take("", "/t", "a.mcap", 1, body())

    async def state(self, *wanted: str) -> Replay:
        end = time.monotonic() + 10
        while self.told[-1].state not in wanted:
            assert time.monotonic() < end, self.told[-1]
            await asyncio.sleep(0.01)
        return self.told[-1]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "FileNotFoundError"),
        ("""echo '{"event": "started"}'; exec sleep 60""", "KeyError: 'start'"),
        ("head -c 200000 /dev/zero >&2; echo >&2; echo 'replay: no images' >&2; exit 1", "no images"),
    ],
)
def test_a_replay_that_goes_wrong_ends_and_another_may_begin(tmp_path, monkeypatch, script, words):
    async def run() -> None:
        stub = Stub(tmp_path, monkeypatch, script)
        for _ in range(2):
            await stub.begin()
            assert words in (await stub.state("failed")).message
            assert not stub.replays._processes
        await stub.replays.close()

    asyncio.run(run())


def test_stop_ends_one_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_STOP_PATIENCE", 0.2)

    async def run() -> None:
        script = """trap '' INT; echo '{"event": "started", "start": 0, "until": 9}'; exec sleep 60"""
        stub = Stub(tmp_path, monkeypatch, script)
        await stub.begin()
        await stub.state("playing")
        stub.replays.stop("")
        assert (await stub.state("stopped", "failed")).message == "Stopped after 0 images."
        await stub.replays.close()

    asyncio.run(run())
