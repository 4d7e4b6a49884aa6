"""Image messages as a broken driver, a bad network or an attacker would send them; the same ones for the same seed."""

from __future__ import annotations

import copy
import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import PIL.Image
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from stream_vl_ros.ros.encodings import ENCODINGS

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
UINT32 = 2**32 - 1
SIZES = (0, 1, 2, 3, 7, 64, 201, 4096, 2**16, 2**31 - 1, 2**31, UINT32)
TEXTS = (
    *("", "RGB8", "rgb8 ", "rgb", "32FC3", "jpeg", "yuv420", "a" * 100_000),
    *("é\u202e\U0001f600", "\n\t\x1b[2J", "%s{}"),
)
FORMS = (
    *("", "jpeg", "png", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; png compressed bgr8"),
    *("bayer_rggb8; jpeg compressed", "16UC1; png compressed", "16UC1; compressedDepth png"),
    *("32FC1; compressedDepth png", "16UC1; compressedDepth rvl"),
    *("tiff", "webp", "gif", "h264", ";;;", "bayer_; png", "b" * 100_000, "compressedDepth"),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A message, what was done to it, and what it was before that: never the same."""

    message: Image | CompressedImage
    done: tuple[str, ...]
    original: Image | CompressedImage


def mutant(seed: int, number: int, stamp_ns: int) -> Mutant:
    """The mutant of a number, whatever came before it; `stamp_ns` is the stamp that it would have unspoilt."""
    random_ = random.Random(f"{seed}:{number}")
    make = random_.choice((_raw, _raw, _compressed))
    return make(random_, stamp_ns)


def good(picture: np.ndarray, stamp_ns: int) -> Image:
    """A message that must work."""
    height, width, _ = picture.shape
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    message.header.stamp = Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    message.data = picture.tobytes()
    return message


def _spoilt(r: random.Random, message: Image | CompressedImage, changes: tuple[Callable[..., None], ...]) -> Mutant:
    """With one to three changes, drawn anew while they leave the message as it is."""
    original, done = copy.deepcopy(message), ()
    while message == original:
        done = tuple(r.choice(changes) for _ in range(r.randint(1, 3)))
        for change in done:
            change(r, message)
    return Mutant(message, tuple(change.__name__ for change in done), original)


# --- raw images ---------------------------------------------------------------------------------------------


def _raw(r: random.Random, stamp_ns: int) -> Mutant:
    encoding = r.choice(tuple(ENCODINGS))
    height, width = r.randint(1, 40), r.randint(1, 40)
    layout = ENCODINGS[encoding]
    step = layout.row_bytes(width) + r.choice((0, 0, 0, 1, 16))
    data = r.randbytes(step * layout.rows(height))
    if encoding == "32FC1":
        data = _floats(r, len(data))
    message = Image(height=height, width=width, encoding=encoding, step=step)
    message.header.stamp = Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    message.is_bigendian = r.choice((0, 0, 0, 1))
    message.data = data
    return _spoilt(r, message, RAW)


def _floats(r: random.Random, size: int) -> bytes:
    values = np.frombuffer(r.randbytes(size - size % 4), np.float32).copy()
    values[:: r.randint(1, 5)] = r.choice((np.nan, np.inf, -np.inf, -0.0, 1e38, 1e-45, -1.0))
    return values.tobytes() + bytes(size % 4)


def height(r: random.Random, message: Image) -> None:
    message.height = r.choice(SIZES)


def width(r: random.Random, message: Image) -> None:
    message.width = r.choice(SIZES)


def giant(r: random.Random, message: Image) -> None:
    """Sizes that agree with each other and would take gigabytes."""
    message.height, message.width = r.choice(((60_000, 60_000), (2**31, 2**31), (UINT32, UINT32), (8193, 8192)))
    message.step = min(UINT32, 3 * message.width)


def size_off_by_one(r: random.Random, message: Image) -> None:
    message.height = max(0, min(UINT32, message.height + r.choice((-1, 0, 1))))
    message.width = max(0, min(UINT32, message.width + r.choice((-1, 0, 1))))


def step(r: random.Random, message: Image) -> None:
    message.step = r.choice((0, 1, max(0, message.step - 1), min(UINT32, message.step + 1), UINT32))


def encoding(r: random.Random, message: Image) -> None:
    message.encoding = r.choice((*ENCODINGS, *TEXTS))


def bigendian(r: random.Random, message: Image) -> None:
    message.is_bigendian = r.choice((0, 1, 255))


def no_data(r: random.Random, message: Image | CompressedImage) -> None:
    message.data = b""


def cut_off(r: random.Random, message: Image | CompressedImage) -> None:
    data = bytes(message.data)
    message.data = data[: r.randint(0, len(data))]


def too_much(r: random.Random, message: Image | CompressedImage) -> None:
    message.data = bytes(message.data) + r.randbytes(r.randint(1, 64))


def stamp(r: random.Random, message: Image | CompressedImage) -> None:
    """Zero, negative, no time at all, far in the future or in the past, or the very same again."""
    seconds = message.header.stamp.sec
    sec, nanosec = r.choice(
        (
            *((0, 0), (0, 1), (-1, 0), (-(2**31), 0), (2**31 - 1, 0), (2**31 - 1, UINT32), (seconds, SECOND)),
            *((seconds, UINT32), (seconds + 86_400, 0), (max(0, seconds - 86_400), 0)),
        )
    )
    message.header.stamp = Time(sec=sec, nanosec=nanosec)


def frame_id(r: random.Random, message: Image | CompressedImage) -> None:
    message.header.frame_id = r.choice(TEXTS)


ANY = (no_data, cut_off, too_much, stamp, frame_id)
RAW: tuple[Callable[..., None], ...] = (
    *(height, width, giant, size_off_by_one, step, encoding, bigendian),
    *ANY,
)


# --- compressed images --------------------------------------------------------------------------------------


def _compressed(r: random.Random, stamp_ns: int) -> Mutant:
    file = r.choice(tuple(files().values()))
    message = CompressedImage(format=r.choice(("jpeg", "png", *FORMS)), data=file)
    message.header.stamp = Time(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    return _spoilt(r, message, COMPRESSED)


def flipped(r: random.Random, message: CompressedImage) -> None:
    data = bytearray(message.data)
    for _ in range(min(len(data), r.randint(1, 8))):
        data[r.randrange(len(data))] = r.randrange(256)
    message.data = bytes(data)


def claims(r: random.Random, message: CompressedImage) -> None:
    """Another size in the file's own header, its checksum right."""
    message.data = claiming(bytes(message.data), r.choice(SIZES), r.choice(SIZES))


def twice(r: random.Random, message: CompressedImage) -> None:
    message.data = bytes(message.data) * 2


def depth_header(r: random.Random, message: CompressedImage) -> None:
    """What the compressedDepth transport puts in front, its numbers senseless."""
    a, b = (r.choice((0.0, 1.0, -1e30, 1e38, float("nan"), float("inf"))) for _ in range(2))
    message.format = r.choice(("16UC1; compressedDepth png", "32FC1; compressedDepth png"))
    message.data = struct.pack("<iff", r.choice((0, -1, 2**31 - 1)), a, b) + bytes(message.data)


COMPRESSED: tuple[Callable[..., None], ...] = (flipped, flipped, claims, twice, depth_header, *ANY)


def claiming(file: bytes, height: int, width: int) -> bytes:
    """A PNG, JPEG, GIF or BMP whose header says another size."""
    if file.startswith(b"\x89PNG") and len(file) > 33:
        header = file[12:16] + struct.pack(">II", width, height) + file[24:29]
        return file[:12] + header + struct.pack(">I", zlib.crc32(header)) + file[33:]
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        at = file.find(marker)
        if file.startswith(b"\xff\xd8") and 0 < at < len(file) - 9:
            return file[: at + 5] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + file[at + 9 :]
    if file.startswith(b"GIF8") and len(file) > 10:
        return file[:6] + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + file[10:]
    return file


@cache
def files() -> dict[str, bytes]:
    """Files of every kind that a camera may send, and of kinds that none does."""
    noise = np.random.default_rng(1).integers(0, 256, (24, 32, 4), dtype=np.uint8)
    colour, gray = PIL.Image.fromarray(noise[:, :, :3]), PIL.Image.fromarray(noise[:, :, 0])
    deep = PIL.Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    alpha = PIL.Image.fromarray(noise)
    frames = {"save_all": True, "append_images": [colour, colour]}
    return {
        "jpeg": _saved(colour, "JPEG"),
        "progressive jpeg": _saved(colour, "JPEG", progressive=True),
        "gray jpeg": _saved(gray, "JPEG"),
        "cmyk jpeg": _saved(colour.convert("CMYK"), "JPEG"),
        "png": _saved(colour, "PNG"),
        "gray png": _saved(gray, "PNG"),
        "16-bit png": _saved(deep, "PNG"),
        "rgba png": _saved(alpha, "PNG"),
        "palette png": _saved(colour.convert("P"), "PNG"),
        "bilevel png": _saved(gray.convert("1"), "PNG"),
        "animated png": _saved(colour, "PNG", **frames),
        "several pictures in a jpeg": _saved(colour, "MPO", **frames),
        "gif": _saved(colour, "GIF", **frames),
        "tiff": _saved(colour, "TIFF"),
        "webp": _saved(colour, "WEBP"),
        "bmp": _saved(colour, "BMP"),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "text": b"P6 9 9 255\n" + bytes(243),
    }


def _saved(image: PIL.Image.Image, codec: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, codec, **options)
    return out.getvalue()
