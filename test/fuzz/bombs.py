"""Small messages that claim to be huge, each with the reason that it must be refused for."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from types import SimpleNamespace

import numpy as np
import PIL.Image
from mutated_images import claiming

# What texts and colour profiles inside of a file become; 200 times less than it is in the file.
MUCH = 256 << 20


@cache
def bombs() -> dict[str, tuple[SimpleNamespace, str]]:
    """By name: the message, and the reason."""
    png, jpeg = _saved("PNG"), _saved("JPEG")
    return {
        "png of 60000x60000": (_file("png", claiming(png, 60_000, 60_000)), "too_large"),
        "png of the largest size": (_file("png", claiming(png, 2**31 - 1, 2**31 - 1)), "too_large"),
        "png just beyond the limit": (_file("png", claiming(png, 8193, 8192)), "too_large"),
        "zeros, compressed a thousand times": (_file("png", _zeros(9000, 9000)), "too_large"),
        "jpeg of 65500x65500": (_file("jpeg", claiming(jpeg, 65_500, 65_500)), "too_large"),
        "jpeg of 200000 scans": (_file("jpeg", _scans(200_000)), "bad_compressed"),
        "depth of 65535x65535": (
            _file("16UC1; compressedDepth png", bytes(12) + claiming(png, 65_535, 65_535)),
            "too_large",
        ),
        "raw of 60000x60000": (_raw(60_000, 60_000), "too_large"),
        "raw of 2^32-1 x 2^32-1": (_raw(2**32 - 1, 2**32 - 1), "too_large"),
        "raw of 8192x8192 that is not there": (_raw(8192, 8192), "short_data"),
        "one row of 2^32-1": (_raw(1, 2**32 - 1), "aspect_ratio"),
        "steps of 4 GiB": (_raw(9, 9, step=2**32 - 1), "short_data"),
        "huge text in a png": (_file("png", _with_chunk(png, b"zTXt", b"a\0\0" + _deflated(MUCH))), "bad_compressed"),
        "huge profile in a png": (
            _file("png", _with_chunk(png, b"iCCP", b"a\0\0" + _deflated(MUCH))),
            "bad_compressed",
        ),
        "gif of 65535x65535": (_file("gif", claiming(_saved("GIF"), 65_535, 65_535)), "unknown_encoding"),
        "tiff": (_file("tiff", _saved("TIFF")), "unknown_encoding"),
        "webp": (_file("webp", _saved("WEBP")), "unknown_encoding"),
        "bmp": (_file("bmp", _saved("BMP")), "unknown_encoding"),
        "gif that says jpeg": (_file("jpeg", _saved("GIF")), "bad_compressed"),
        "postscript": (_file("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "unknown_encoding"),
    }


def _file(form: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(format=form, data=data)


def _raw(height: int, width: int, step: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=min(2**32 - 1, 3 * width) if step is None else step,
        data=bytes(300),
    )


def _saved(codec: str) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(out, codec)
    return out.getvalue()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _zeros(height: int, width: int) -> bytes:
    """A whole PNG of black RGB pixels."""
    packed = _deflated(height * (3 * width + 1))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    return png[:33] + _chunk(name, content) + png[33:]


@cache
def _deflated(size: int) -> bytes:
    """So many zeros, compressed without ever being there."""
    packer, block = zlib.compressobj(1), bytes(1 << 20)
    parts = [packer.compress(block[: min(len(block), size - done)]) for done in range(0, size, len(block))]
    return b"".join([*parts, packer.flush()])


def _scans(count: int) -> bytes:
    """A progressive JPEG of 8192x8192 that goes over all of its pixels again and again."""
    out = io.BytesIO()
    PIL.Image.fromarray(np.zeros((64, 64), np.uint8)).save(out, "JPEG", progressive=True)
    file = claiming(out.getvalue(), 8192, 8192)
    first = file.index(b"\xff\xda")
    second = file.index(b"\xff\xda", first + 2)
    third = file.index(b"\xff\xda", second + 2)
    return file[:second] + file[second:third] * count + b"\xff\xd9"
