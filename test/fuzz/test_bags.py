"""Mutated bags: read as far as they can be, or a `BagError`; and bags that would become gigabytes."""

from __future__ import annotations

import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, storage_mcap

from stream_vl_ros.bag import ask_bag, bounds
from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.bag.serialized import IMAGE, serialized_image, typestore
from stream_vl_ros.bag.writer import ImageBagWriter
from stream_vl_ros.engine.process_memory import status_bytes
from stream_vl_ros.errors import BagError, StreamVLError
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.pictures import picture_of

MIB = 1 << 20
START = 1_700_000_000_000_000_000
COUNT = 12
MODES = {"message": CompressionMode.MESSAGE, "file": CompressionMode.FILE, "chunk": CompressionMode.STORAGE}


def written(path: Path, storage: str, mode: str = "") -> Path:
    """A bag of a few small pictures."""
    pictures = np.random.default_rng(1).integers(0, 256, (COUNT, 12, 16, 3), dtype=np.uint8)
    if not mode:
        with ImageBagWriter(path, storage=storage) as plain:
            for i, picture in enumerate(pictures):
                plain.write(picture, START + i * 100_000_000)
        return path
    plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[storage]
    writer = Writer(path, version=9, storage_plugin=plugin)
    writer.set_compression(MODES[mode], CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/camera/image_raw", IMAGE, typestore=typestore())
        for i, picture in enumerate(pictures):
            stamp = START + i * 100_000_000
            writer.write(connection, stamp, serialized_image(picture, stamp, "camera"))
    return path


KINDS = [
    ("mcap", ""),
    ("sqlite3", ""),
    ("mcap", "chunk"),
    ("mcap", "message"),
    ("sqlite3", "message"),
    ("sqlite3", "file"),
]


def read(path: Path) -> str:
    """What becomes of a bag: "whole", "salvaged" (some messages, then a reason), or "refused"."""
    count = 0
    try:
        with BagReader(path) as bag:
            for topic in bag.filled_image_topics():
                for message in bag.messages(topic):
                    count += 1
                    try:
                        picture_of(bag.decode(topic, message), ImageOptions())
                    except StreamVLError:
                        continue
    except BagError as error:
        damage = str(error)
    else:
        return "whole"
    assert len(damage) < 5000
    return "salvaged" if count else "refused"


def spoil(r: random.Random, path: Path) -> None:
    """A file cut off, with bytes changed, filled with zeros, repeated or emptied; or a folder without it."""
    file = r.choice(sorted(path.iterdir()))
    data = bytearray(file.read_bytes())
    kind = r.randrange(6)
    if kind == 0:
        data = data[: r.randrange(len(data))]
    elif kind == 1:
        begin = r.randrange(len(data))
        data[begin : begin + r.randint(1, 300)] = bytes(r.randint(0, 300))
    elif kind == 2:
        data += data[r.randrange(len(data)) :]
    elif kind == 3 and r.random() < 0.3:
        file.unlink()
        return
    elif kind == 4 and file.suffix == ".yaml":
        words = data.decode().split()
        old = r.choice(words)
        new = r.choice(("", "-1", "'x'", "1e99", "[]", "{}", "null", "true", "9" * 23, "../../x.mcap", "*a"))
        data = bytearray(data.decode().replace(old, new, 1).encode())
    else:
        for _ in range(r.randint(1, 12)):
            data[r.randrange(len(data))] = r.randrange(256)
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(("storage", "mode"), KINDS)
def test_mutated_bags(tmp_path, fuzz_seed, storage, mode):
    good = written(tmp_path / "good", storage, mode)
    assert read(good) == "whole"
    outcomes: Counter[str] = Counter()
    before = 0.0
    for number in range(120):
        bad = tmp_path / "bad"
        shutil.copytree(good, bad)
        for file in bad.iterdir():
            file.rename(file.with_name(file.name.replace("good", "bad")))
        meta = bad / "metadata.yaml"
        meta.write_text(meta.read_text().replace("good.", "bad."))
        spoil(random.Random(f"{fuzz_seed}:{storage}:{mode}:{number}"), bad)
        outcomes[read(bad)] += 1
        shutil.rmtree(bad)
        if number == 40:
            before = status_bytes("VmRSS") / MIB
    assert outcomes["refused"] > 10 and outcomes["whole"] > 5, outcomes
    assert status_bytes("VmRSS") / MIB - before < 60
    assert read(good) == "whole"


def test_single_files(tmp_path, fuzz_seed):
    """Without metadata.yaml."""
    for storage in ("mcap", "sqlite3"):
        (good,) = [f for f in written(tmp_path / f"good_{storage}", storage).iterdir() if f.suffix != ".yaml"]
        folder = tmp_path / f"bad_{storage}"
        for number in range(120):
            folder.mkdir()
            shutil.copy(good, folder / good.name)
            spoil(random.Random(f"{fuzz_seed}:{storage}:{number}"), folder)
            read(folder / good.name)
            shutil.rmtree(folder)
        assert read(good) == "whole"


def test_a_question_to_a_mutated_bag(tmp_path, fuzz_seed, capsys):
    good = written(tmp_path / "good", "mcap")
    for number in range(6):
        bad = tmp_path / "bad.mcap"
        shutil.copy(good / "good.mcap", bad)
        data = bytearray(bad.read_bytes())
        random_ = random.Random(f"{fuzz_seed}:{number}")
        for _ in range(40):
            data[random_.randrange(len(data) // 2)] = random_.randrange(256)
        bad.write_bytes(bytes(data))
        assert ask_bag.main([str(bad), "-q", "What is visible now?", "-p", "device:=cpu"]) in (0, 1)
        assert "Traceback" not in capsys.readouterr().err


def test_times_that_are_no_numbers(tmp_path):
    """The words about a damaged file must not fail at what it holds."""
    path = written(tmp_path / "good", "sqlite3")
    with sqlite3.connect(path / "good.db3") as db:
        db.execute("UPDATE messages SET timestamp = 'noon' WHERE id = 3")
        db.execute("UPDATE topics SET type = x'ff'")
    db.close()
    assert read(path / "good.db3") in ("refused", "salvaged")


def test_messages_that_are_told_of_but_are_not_there(tmp_path, capsys):
    path = written(tmp_path / "good", "sqlite3")
    with sqlite3.connect(path / "good.db3") as db:
        db.execute("DELETE FROM messages")
    db.close()
    assert ask_bag.main([str(path), "-q", "What is visible now?", "-p", "device:=cpu"]) == 1
    told = capsys.readouterr().err
    assert "none can be read" in told and "Traceback" not in told


# --- bombs --------------------------------------------------------------------------------------------------

BOMB = """
import resource, sys
sys.path.append(sys.argv[1])
from test_bags import read
from stream_vl_ros.bag.reader import BagReader
from stream_vl_ros.engine.process_memory import status_bytes
from stream_vl_ros.errors import BagError
resource.setrlimit(resource.RLIMIT_AS, (status_bytes("VmSize") + int(sys.argv[3]),) * 2)
try:
    with BagReader(sys.argv[2]) as bag:
        for topic in bag.image_topics:
            for message in bag.messages(topic): pass
    print("read")
except BagError as error:
    assert "MemoryError" not in str(error), error
    print(error)
"""


def exploded(path: Path, room: int = 128 * MIB) -> str:
    """What reading the bag says, in a process that may take so much more memory."""
    child = subprocess.run(
        [sys.executable, "-c", BOMB, str(Path(__file__).parent), str(path), str(room)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return child.stdout


def zeros(size: int) -> bytes:
    """So many zeros, compressed; the frame does not say how many."""
    packer, block = zstd.ZstdCompressor(), bytes(MIB)
    return b"".join([*(packer.compress(block) for _ in range(size // MIB)), packer.flush()])


def with_chunk(path: Path, compressed: bytes, declared: int) -> None:
    """Put another content into the only chunk of an mcap, without an index."""
    data = path.read_bytes()
    at = data.index(b"\x04\0\0\0zstd") - 29
    head = struct.pack("<QQQI", 0, 2**62, declared, 0) + b"\x04\0\0\0zstd" + struct.pack("<Q", len(compressed))
    chunk = b"\x06" + struct.pack("<Q", len(head) + len(compressed)) + head + compressed
    footer = b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + b"\x89MCAP0\r\n"
    path.write_bytes(data[: at - 8] + chunk + footer)


def test_a_chunk_that_becomes_more_than_it_says(tmp_path):
    path = written(tmp_path / "bomb", "mcap", "chunk") / "bomb.mcap"
    with_chunk(path, zeros(1 << 30), 1000)
    assert path.stat().st_size < 100_000
    assert "more than the 1000" in exploded(path)


def test_a_chunk_that_says_too_much(tmp_path):
    path = written(tmp_path / "bomb", "mcap", "chunk") / "bomb.mcap"
    with_chunk(path, zeros(MIB), 1 << 40)
    assert "declares 1099511627776 bytes" in exploded(path)


def test_a_message_that_becomes_too_large(tmp_path):
    path = written(tmp_path / "bomb", "sqlite3", "message")
    with sqlite3.connect(path / "bomb.db3") as db:
        db.execute("UPDATE messages SET data = ? WHERE id = 3", (zeros(1 << 30),))
    db.close()
    told = exploded(path, room=800 * MIB)
    assert f"message 2 of /camera/image_raw: {len(zeros(1 << 30))} compressed bytes become more than" in told


@pytest.mark.parametrize("told", [True, False])
def test_a_file_that_becomes_larger_than_there_is_room(tmp_path, told):
    """By what its frames say, or by trying; nothing is written meanwhile."""
    path = written(tmp_path / "bomb", "sqlite3", "file")
    (file,) = path.glob("*.zstd")
    file.write_bytes(zstd.compress(bytes(64 * MIB)) * 2 if told else zeros(128 * MIB))
    with pytest.raises(BagError, match=r"more than the 90 MiB .* TMPDIR"):
        bounds.check_files([file], room=90 * MIB)
    bounds.check_files([file], room=128 * MIB)
    with pytest.raises(BagError, match="damaged"):
        BagReader(path)


def test_the_library_has_the_table_that_is_bounded():
    assert set(storage_mcap.DECOMPRESSORS) == {"", "zstd", "lz4"}
    with pytest.raises(BagError, match="end too early"):
        storage_mcap.DECOMPRESSORS["lz4"](bounds.lz4.frame.compress(bytes(1000))[:20], 1000)
    assert storage_mcap.DECOMPRESSORS["lz4"](bounds.lz4.frame.compress(bytes(1000)), 1000) == bytes(1000)
    assert storage_mcap.DECOMPRESSORS["zstd"](zstd.compress(b"a") + zstd.compress(b"b"), 2) == b"ab"
