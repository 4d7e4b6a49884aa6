"""Memories on disk that were damaged, or changed on purpose: refused with the reason, and nothing happens."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stream_vl_ros.engine import StreamConfig, VideoStream, load_memory, save_memory
from stream_vl_ros.errors import SavedMemoryError

sys.path.append(str(Path(__file__).parent))
from resumed import watch

# What stands in for a field; none is what the field was, and most are of another type.
STRANGERS: tuple[object, ...] = (
    None, True, "", "x" * 10_000, "\ud800", -1, 0, 1, 3, 7, 2**31, 2**62, 2**64, 10**400, 1.5, -0.0, 1e-300, 1e308,
    float("nan"), float("inf"), [], [[]], [10**12], [1] * 100_000, {}, {"": {}}, {"tokens": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def streams(loaded) -> list[VideoStream]:
    """A stream with everything that can be saved, and a smaller one."""
    settings = StreamConfig(eviction="importance", budget_tokens=120, sink_frames=2, still_threshold=85.3)
    full, small = VideoStream(loaded, settings), VideoStream(loaded)
    for lap in range(4):
        watch(full, 0, 79, at=lap * 39.5)
    watch(full, 0, 7, at=900.0)
    watch(small, 0, 8)
    return [full, small]


@pytest.fixture
def memory(streams, tmp_path) -> Path:
    save_memory(streams[0], tmp_path / "kitchen")
    return tmp_path / "kitchen"


@pytest.fixture
def live(loaded) -> Iterator[VideoStream]:
    """A stream that must be as it was at the end."""
    stream = VideoStream(loaded)
    watch(stream, 0, 7)
    before = stream.signature()
    yield stream
    assert stream.signature() == before and len(stream.pending) == 3


def tensors_of(memory: Path) -> Path:
    (file,) = memory.glob("*.safetensors")
    return file


def refusal(stream: VideoStream, memory: Path) -> SavedMemoryError:
    with pytest.raises(SavedMemoryError) as caught:
        stream.restore(load_memory(stream.model, memory))
    assert str(memory) in str(caught.value)
    assert 20 < len(str(caught.value)) < 700
    return caught.value


def document(memory: Path) -> dict:
    return json.loads((memory / "memory.json").read_text())


def write(memory: Path, whole: dict, *, seal: bool = True) -> None:
    """Write memory.json, with a right checksum if it can have one."""
    if seal:
        text = json.dumps(whole["memory"], sort_keys=True, separators=(",", ":"))
        whole["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (memory / "memory.json").write_text(json.dumps(whole))


def test_the_fixture_is_sound(streams, live, memory):
    """What the other tests damage can be loaded as it is, also when it is written anew."""
    write(memory, document(memory))
    other = VideoStream(live.model, streams[0].config)
    other.restore(load_memory(live.model, memory))
    assert other.signature() == streams[0].signature()
    state = other.state
    assert state.ledger.survivors is not None and state.last_read is not None and other.pending
    assert any(b.places is not None and 0 < b.tokens < 6 for b in state.ledger.blocks)


@pytest.mark.parametrize("file", ["memory.json", "tensors"])
def test_a_flipped_bit_is_noticed(live, memory, file):
    path = memory / file if file == "memory.json" else tensors_of(memory)
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    places = {0, 7, 8, 9, len(data) // 2, len(data) - 1, *map(int, rng.integers(0, len(data), 150))}
    if file == "memory.json":
        places -= {len(data) - 1}  # a line end
    for place in places:
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(broken)
        error = refusal(live, memory)
        assert error.reason in ("checksum", "damaged", "version"), error


@pytest.mark.parametrize("file", ["memory.json", "tensors"])
def test_a_cut_or_a_longer_file_is_noticed(live, memory, file):
    path = memory / file if file == "memory.json" else tensors_of(memory)
    data = path.read_bytes()
    for size in (0, 1, 7, 8, 9, 100, len(data) // 3, len(data) // 2, len(data) - 100, len(data) - 2):
        path.write_bytes(data[:size])
        assert refusal(live, memory).reason == "damaged"
    path.write_bytes(data + b"x")
    assert refusal(live, memory).reason == "damaged"


def test_a_missing_file_is_noticed(live, memory):
    tensors_of(memory).unlink()
    assert "there is no tensors-" in str(refusal(live, memory))
    (memory / "memory.json").unlink()
    assert "there is no memory.json" in str(refusal(live, memory))
    memory.rmdir()
    assert refusal(live, memory).reason == "missing"
    memory.write_text("a file")
    assert refusal(live, memory).reason == "name"


def test_what_there_is_is_told(live, memory):
    with pytest.raises(SavedMemoryError, match=r"no such saved memory; in '.*' are 'kitchen'"):
        load_memory(live.model, memory.parent / "hall")


def test_the_tensors_of_another_memory_are_noticed(streams, live, memory, tmp_path):
    save_memory(streams[1], tmp_path / "other")
    shutil.copy(tensors_of(tmp_path / "other"), tensors_of(memory))
    assert refusal(live, memory).reason == "damaged"
    # As long, with the same header, and sound by itself.
    watch(streams[1], 8, 12)
    shutil.rmtree(tmp_path / "other")
    save_memory(streams[1], tmp_path / "other")
    later = tensors_of(tmp_path / "other").read_bytes()
    streams[1].reset()
    watch(streams[1], 20, 32)
    save_memory(streams[1], tmp_path / "other")
    assert len(later) == tensors_of(tmp_path / "other").stat().st_size
    tensors_of(tmp_path / "other").write_bytes(later)
    assert refusal(live, tmp_path / "other").reason == "checksum"


def leaves(value: object, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all fields, those of objects and lists included."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if not (isinstance(key, int) and key > 1):
            yield from leaves(inner, (*path, key))


def changed(whole: dict, path: tuple, value: object) -> dict:
    other = copy.deepcopy(whole)
    place = other
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return other


# Fields of which another value can be as right as the one that was there: nothing else says what it was.
FREE = {
    ("memory", "written"), ("memory", "settings"), ("memory", "sampler"), ("memory", "waiting"),
    ("memory", "model", "name"), ("memory", "state", "answered"), ("memory", "state", "span"),
    ("memory", "state", "position"), ("memory", "state", "first_stamp_ns"), ("memory", "state", "last_stamp_ns"),
    ("memory", "state", "segment"), ("memory", "ledger", "evicted"), ("memory", "cache", "own"),
}  # fmt: skip


@pytest.mark.slow
def test_strange_values_under_a_right_checksum(streams, loaded, live, memory):
    """Whoever can write the file can write its checksum: each field is looked at, and nothing large is made of it."""
    whole = document(memory)
    paths = list(leaves(whole))
    assert len(paths) > 120
    accepted = set()
    for path in paths:
        for stranger in STRANGERS:
            was = whole
            for key in path:
                was = was[key]
            if type(stranger) is type(was) and stranger == was:
                continue
            try:
                write(memory, changed(whole, path, stranger), seal=path[0] == "memory")
            except UnicodeEncodeError:
                continue  # half a surrogate pair can only come as an escape
            try:
                snapshot = load_memory(loaded, memory)
            except SavedMemoryError:
                continue
            assert any(path[: len(free)] == free for free in FREE), (path, stranger)
            accepted.add(path)
            # A stream that goes back to it may be wrong, but it lives.
            other = VideoStream(loaded, streams[0].config)
            other.restore(snapshot)
            assert other.ask("What is it?", max_new_tokens=1).token_ids
    assert accepted, "some must have been"


@pytest.mark.parametrize("path", [("memory", "sampler"), ("memory", "state"), ("memory", "ledger", "evicted"), ()])
def test_fields_that_are_missing_or_too_many(live, memory, path):
    whole = document(memory)
    inner = whole
    for key in path:
        inner = inner[key]
    for key in list(inner):
        value = inner.pop(key)
        write(memory, whole, seal="memory" in whole and path != ())
        assert refusal(live, memory).reason in ("damaged", "checksum")
        inner[key] = value
    inner["more"] = 1
    write(memory, whole)
    assert "more" in str(refusal(live, memory))


def test_fields_that_changed_places(live, memory):
    whole = document(memory)
    for one, other in (("state", "sampler"), ("ledger", "cache"), ("prompt", "model"), ("tensors", "sha256")):
        inner = whole["memory"]
        swapped = {**inner, one: inner[other], other: inner[one]}
        write(memory, {**whole, "memory": swapped})
        assert refusal(live, memory).reason == "damaged"


def test_another_version_is_refused(live, memory):
    for version in (0, 2, 999):
        write(memory, {**document(memory), "version": version})
        error = refusal(live, memory)
        assert error.reason == "version" and f"version {version} of the format" in str(error)


def test_a_changed_setting_without_its_checksum_is_noticed(live, memory):
    whole = document(memory)
    whole["memory"]["state"]["frames"] += 2
    write(memory, whole, seal=False)
    assert refusal(live, memory).reason == "checksum"
    write(memory, whole)
    assert "count other frames" in str(refusal(live, memory))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"memory"',
        b"\x00\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"format": "x", "format": "x"}',
        b'{"format": "stream_vl_ros memory", "version": ' + b"9" * 100_000 + b"}",
        b'{"format": "stream_vl_ros memory", "version": NaN}',
        b'{"format": "stream_vl_ros memory", "version": 1e999}',
        b'{"model_type": "qwen2_5_vl"}',
        b" " * (4 * 2**20 + 1),
    ],
    ids=lambda text: text[:24].decode(errors="replace"),
)
def test_files_that_are_none_of_ours(live, memory, text):
    (memory / "memory.json").write_bytes(text)
    assert refusal(live, memory).reason == "damaged"


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/passwd", "tensors-0000000000000000.safetensors/..", "", ".", "memory.json"]
)
def test_a_file_of_tensors_elsewhere_is_not_opened(live, memory, name):
    shutil.copy(tensors_of(memory), memory.parent / "secret.safetensors")
    whole = document(memory)
    whole["memory"]["tensors"] = name
    write(memory, whole)
    assert "no name that is written here" in str(refusal(live, memory))


def test_links_and_pipes_are_not_followed(live, memory):
    outside = memory.parent.parent / f"{memory.parent.name}-outside"
    shutil.copytree(memory, outside)
    for path in (tensors_of(memory), memory / "memory.json"):
        target = outside / path.name
        path.unlink()
        path.symlink_to(target)
        assert "symbolic link" in str(refusal(live, memory))
        path.unlink()
        os.mkfifo(path)
        assert "no regular file" in str(refusal(live, memory))
        path.unlink()
        path.mkdir()
        assert "no regular file" in str(refusal(live, memory))
        path.rmdir()
        shutil.copy(target, path)
    load_memory(live.model, memory)
    link = memory.parent / "link"
    link.symlink_to(outside)
    for act in (lambda: load_memory(live.model, link), lambda: save_memory(live, link)):
        with pytest.raises(SavedMemoryError, match="symbolic link"):
            act()
    assert sorted(p.name for p in outside.iterdir()) == sorted(p.name for p in memory.iterdir())


def test_a_ledger_that_says_something_else_is_noticed(live, memory):
    """The tensors of whole numbers, under right checksums."""
    from safetensors.torch import load_file

    from stream_vl_ros.engine.saved import tensor_file

    path = tensors_of(memory)
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # not the file's own memory
    big = 2**62
    cases = [
        ("ledger.blocks", (0, 0), 10**9), ("ledger.blocks", (0, 7), 0), ("ledger.blocks", (1, 2), 5),
        ("ledger.blocks", (-1, 0), -1), ("ledger.blocks", (-1, 1), big), ("ledger.blocks", (-1, 4), 0),
        ("ledger.blocks", (-1, 5), big), ("ledger.blocks", (-1, 9), 7), ("ledger.blocks.places", (0,), -3),
        ("ledger.blocks.places", (0,), 6), ("ledger.survivors.sources", (0, 0, 0), 10**6),
        ("ledger.survivors.sources", (3, 1, 2), -1), ("ledger.survivors.places", (0, 0, 0), 6),
        ("ledger.survivors.places", (0, 0, 0), -3), ("ledger.survivors.positions", (0, 0, 0), big),
    ]  # fmt: skip
    for name, place, value in cases:
        other = {k: v.clone() for k, v in tensors.items()}
        other[name][place] = value
        with path.open("wb") as file:
            digest = tensor_file.write(file.fileno(), other, tensor_file.at_once)
        whole = document(memory)
        whole["memory"]["sha256"] = digest
        write(memory, whole)
        error = refusal(live, memory)
        begins = name == "ledger.blocks" and place[0] == 0
        expected = "does not begin with the prompt" if begins else f"the tensor {name} does not fit"
        assert error.reason == "damaged" and expected in str(error), (name, place)
