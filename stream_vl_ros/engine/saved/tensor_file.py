"""safetensors files, written and read one tensor at a time.

The library's writer takes all tensors at once, each contiguous. Those of a KV cache are views into roomier buffers, and
contiguous copies of all of them would take the cache's memory a second time. The format itself is small
(https://github.com/huggingface/safetensors#format): the length of a JSON header, the header, and the bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from stream_vl_ros.errors import SavedMemoryError

T = TypeVar("T")


class Turn(Protocol):
    """Runs work where the model's device may be used, and waits for what it returns."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


def at_once(work: Callable[[], T], /) -> T:
    """The `Turn` of a thread that may use the device itself."""
    return work()


_CODES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.uint8: "U8",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a tensor in a file is: its name, dtype and shape."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def total_bytes(specs: Sequence[TensorSpec]) -> int:
    """Bytes of a file with these tensors."""
    return len(_header(specs)) + sum(s.nbytes for s in specs)


def write(file: int, tensors: Mapping[str, Tensor], turn: Turn) -> str:
    """Write tensors to an open file descriptor. Returns the SHA-256 of the file in hex.

    Args:
        file: at its beginning.
        tensors: by name, on any device; copied to the CPU one at a time.
        turn: see `Turn`; asked for tensors that are not on the CPU.

    Raises:
        OSError: if the file cannot take them.
    """
    specs = [TensorSpec(name, t.dtype, tuple(t.shape)) for name, t in tensors.items()]
    digest = hashlib.sha256()
    _put(file, memoryview(_header(specs)), digest.update)
    for spec in _ordered(specs):
        tensor = tensors[spec.name]
        there = tensor if tensor.device.type == "cpu" else turn(tensor.cpu)
        _put(file, _raw(there.contiguous()), digest.update)
    return digest.hexdigest()


def read(file: int, specs: Sequence[TensorSpec]) -> tuple[dict[str, Tensor], str]:
    """Read exactly these tensors from an open file descriptor. Returns them, on the CPU, and the SHA-256 of the file.

    Nothing is allocated unless the file is as long as they are.

    Raises:
        SavedMemoryError: (``damaged``) if anything else is in it.
        OSError: if it cannot be read.
    """
    size, expected = os.fstat(file).st_size, total_bytes(specs)
    if size != expected:
        raise _damaged(f"it has {size} bytes where {expected} belong")
    header, digest = _header(specs), hashlib.sha256()
    found = bytearray(len(header))
    _get(file, memoryview(found), digest.update)
    if found != header:
        raise _damaged("its header tells of other tensors")
    tensors = {}
    for spec in _ordered(specs):
        tensors[spec.name] = torch.empty(spec.shape, dtype=spec.dtype)
        _get(file, _raw(tensors[spec.name]), digest.update)
    return tensors, digest.hexdigest()


def _ordered(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Wide elements first, so that each tensor begins at a multiple of its element's size."""
    return sorted(specs, key=lambda s: (-s.dtype.itemsize, s.name))


def _header(specs: Sequence[TensorSpec]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for spec in _ordered(specs):
        begin, end = end, end + spec.nbytes
        entries[spec.name] = {"dtype": _CODES[spec.dtype], "shape": list(spec.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _raw(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def _put(file: int, data: memoryview, seen: Callable[[memoryview], object]) -> None:
    seen(data)
    while data.nbytes:
        data = data[os.write(file, data) :]


def _get(file: int, data: memoryview, seen: Callable[[memoryview], object]) -> None:
    left = data
    while left.nbytes:
        count = os.readv(file, [left])
        if not count:
            raise _damaged("it ends too early")
        left = left[count:]
    seen(data)


def _damaged(what: str) -> SavedMemoryError:
    return SavedMemoryError("damaged", f"the file of tensors is damaged: {what}")
