"""Uploads, without ROS: names, sizes, zip files."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.errors import WebError
from stream_vl_ros.web.replays import Replays, _unpacked

DEMO = Path(__file__).parents[2] / "stream_vl_ros" / "data" / "demo_bag"
MIB = 1 << 20


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


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
