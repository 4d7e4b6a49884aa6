"""Saving on disks that are full, in processes that are killed, and at the same time: the memory before stays whole."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream_vl_ros.engine import LoadedModel, VideoStream, load_memory, load_model, save_memory
from stream_vl_ros.engine.random_checkpoint import random_checkpoint
from stream_vl_ros.engine.saved import place
from stream_vl_ros.engine.saved.names import named
from stream_vl_ros.errors import SavedMemoryError

sys.path.append(str(Path(__file__).parent))
from resumed import resumed, watch


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return str(random_checkpoint(folder=tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def model(checkpoint) -> LoadedModel:
    return load_model(checkpoint, device="cpu", dtype="float32")


@pytest.fixture
def stream(model) -> VideoStream:
    stream = VideoStream(model)
    watch(stream, 0, 20)
    return stream


def signature(model: LoadedModel, folder: Path) -> str:
    """Of the stream that goes on with the memory in a folder, which holds nothing else."""
    return resumed(model, str(folder), VideoStream(model).config).signature()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel lets no file of this process become larger, as a disk that is full does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 1, 4_000, 100_000])
def test_a_full_disk_is_told_and_nothing_is_lost(stream, tmp_path, size):
    """In the process itself: the stream goes on."""
    save_memory(stream, tmp_path / "kitchen")
    before = contents(tmp_path)
    watch(stream, 20, 32)
    now = stream.signature()
    for name in ("kitchen", "hall"):
        with largest_file(size), pytest.raises(SavedMemoryError, match=r"File too large.*free some space") as caught:
            save_memory(stream, tmp_path / name)
        assert caught.value.reason == "disk_full"
        assert contents(tmp_path) == before and not (tmp_path / "hall").exists()
    assert stream.signature() == now
    watch(stream, 32, 40)
    save_memory(stream, tmp_path / "kitchen")
    assert signature(stream.model, tmp_path / "kitchen") == stream.signature()


def test_a_disk_that_is_full_once_the_tensors_are_there(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    before = contents(tmp_path)
    large = b"x" * 2000
    with (
        place.hold(tmp_path / "kitchen", write=True) as held,
        largest_file(1000),
        pytest.raises(OSError, match="large"),
    ):
        place.put_json(held, large)
    assert contents(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 2 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(stream, small_disk):
    save_memory(stream, small_disk / "kitchen")
    before = contents(small_disk)
    (small_disk / "filler").write_bytes(b"x" * (2 * 2**20 - sum(map(len, before.values())) - 150_000))
    watch(stream, 20, 60)
    with pytest.raises(SavedMemoryError, match=r"No space left on device.*as it was") as caught:
        save_memory(stream, small_disk / "kitchen")
    assert caught.value.reason == "disk_full"
    (small_disk / "filler").unlink()
    assert contents(small_disk) == before
    save_memory(stream, small_disk / "kitchen")
    assert signature(stream.model, small_disk / "kitchen") == stream.signature()


SAVER = """
import sys
sys.path.insert(0, sys.argv[1])
from resumed import watch
from stream_vl_ros.engine import VideoStream, load_model
from stream_vl_ros.engine.saved.memory_file import moment_of, write
stream = VideoStream(load_model(sys.argv[2], device="cpu", dtype="float32"))
moments, signatures = [], []
for lap in (0, 1):
    watch(stream, 0, 60, at=40.0 * lap)
    moments.append(moment_of(stream))
    signatures.append(stream.signature())
write(moments[0], sys.argv[3])
print(*signatures, flush=True)
while True:
    for moment in moments:
        write(moment, sys.argv[3])
"""


@pytest.fixture
def saver(checkpoint) -> Iterator[Callable[[Path], tuple[subprocess.Popen[str], set[str]]]]:
    """`saver(folder)`: a process that saves two memories in turn under one name, for ever; and their signatures."""
    processes = []

    def start(folder: Path) -> tuple[subprocess.Popen[str], set[str]]:
        arguments = [sys.executable, "-c", SAVER, str(Path(__file__).parent), checkpoint, str(folder)]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=env))
        return processes[-1], set(processes[-1].stdout.readline().split())

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_saves(model, saver, tmp_path):
    """At any moment what is there is one of the two memories, whole; what is left over goes with the next save."""
    left_over = 0
    for attempt in range(5):
        process, known = saver(tmp_path / "kitchen")
        time.sleep(0.1 + 0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        left_over += len(contents(tmp_path)) > 2
        assert signature(model, tmp_path / "kitchen") in known
    assert left_over, "it was never in the middle of it"
    stream = VideoStream(model)
    watch(stream, 0, 8)
    save_memory(stream, tmp_path / "kitchen")
    assert len(contents(tmp_path)) == 2
    assert signature(model, tmp_path / "kitchen") == stream.signature()


def test_what_a_killed_save_left_is_removed(stream, tmp_path):
    save_memory(stream, tmp_path / "kitchen")
    left = ["tensors-0123456789abcdef.safetensors", "memory-0123456789abcdef.json"]
    for name in left:
        (tmp_path / "kitchen" / name).write_bytes(b"half of it")
    (tmp_path / "kitchen" / "notes.txt").write_text("mine")
    assert signature(stream.model, tmp_path / "kitchen") == stream.signature()
    with largest_file(1000), pytest.raises(SavedMemoryError):
        save_memory(stream, tmp_path / "kitchen")  # those of before are gone even so
    names = sorted(p.name for p in (tmp_path / "kitchen").iterdir())
    assert len(names) == 3 and not set(names) & set(left)
    save_memory(stream, tmp_path / "kitchen")
    assert (tmp_path / "kitchen" / "notes.txt").read_text() == "mine"
    assert len(list((tmp_path / "kitchen").iterdir())) == 3


def test_a_first_save_that_was_killed_is_no_memory(stream, tmp_path):
    (tmp_path / "kitchen").mkdir()
    (tmp_path / "kitchen" / "tensors-0123456789abcdef.safetensors").write_bytes(b"half of it")
    with pytest.raises(SavedMemoryError, match=r"no memory\.json"):
        load_memory(stream.model, tmp_path / "kitchen")
    save_memory(stream, tmp_path / "kitchen")
    assert len(list((tmp_path / "kitchen").iterdir())) == 2


def test_a_folder_of_something_else_is_left_alone(stream, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(SavedMemoryError, match=r"folder of something else: 'cat.jpg' is in it"):
        save_memory(stream, tmp_path / "photos")
    assert contents(tmp_path) == {"photos/cat.jpg": b"meow"}


@pytest.mark.slow
def test_two_processes_and_several_threads_at_once(model, saver, tmp_path):
    """All save under one name; whoever reads meanwhile finds a whole memory."""
    folder = tmp_path / "kitchen"
    savers = [saver(folder) for _ in range(2)]
    known = savers[0][1]
    stream = VideoStream(model)
    watch(stream, 0, 12)
    known.add(stream.signature())
    moment, errors = stream.snapshot(), []

    def save_often() -> None:
        mine = VideoStream(model)
        mine.restore(moment)
        try:
            for _ in range(10):
                save_memory(mine, folder)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save_often) for _ in range(3)]
    for thread in threads:
        thread.start()
    found = set()
    while any(t.is_alive() for t in threads):
        found.add(signature(model, folder))
    for process, _ in savers:
        process.kill()
        process.wait()
    assert not errors
    assert found <= known
    assert signature(model, folder) in known
    save_memory(stream, folder)
    assert len(contents(tmp_path)) == 2
    assert json.loads((folder / "memory.json").read_text())["version"] == 1


def test_a_disk_that_cannot_be_written_to(stream, small_disk):
    save_memory(stream, small_disk / "kitchen")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("kitchen", "hall"):
        with pytest.raises(SavedMemoryError, match=r"Read-only file system; check the folder") as caught:
            save_memory(stream, small_disk / name)
        assert caught.value.reason == "unwritable"
    assert signature(stream.model, small_disk / "kitchen") == stream.signature()  # but read from


def test_a_place_that_is_none(stream, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SavedMemoryError, match="cannot be saved") as caught:
        save_memory(stream, tmp_path / "file" / "kitchen")
    assert caught.value.reason == "unwritable"
    with pytest.raises(SavedMemoryError, match="cannot be saved: File name too long"):
        save_memory(stream, tmp_path / ("x" * 300))


@pytest.mark.parametrize("name", ["kitchen", "a b", "café", "ä" * 64, "x" * 128, "a..b", "*", "'", "2026-01-01 12:00"])
def test_plain_names(name, tmp_path):
    assert named(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../a", "a/..", "/", "/etc", "a\\b", ".a", " a", "a ", "a\0", "a\n", "\x7f", "\u202e",
     "\u2028", "\ud800", "\xa0a", "ä" * 65, "x" * 129, "x" * 10**6],
    ids=lambda name: repr(name)[:20],
)  # fmt: skip
def test_names_that_are_none(name, tmp_path):
    with pytest.raises(SavedMemoryError, match="plain name") as caught:
        named(tmp_path, name)
    assert caught.value.reason == "name" and len(str(caught.value)) < 800
