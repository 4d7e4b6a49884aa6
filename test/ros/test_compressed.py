"""Compressed image messages to RGB."""

from __future__ import annotations

import array
import contextlib
import io
import struct
import warnings
import zlib
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.ImageFile import ImageFile
from sensor_msgs.msg import CompressedImage

from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros.compressed import compressed_to_rgb
from stream_vl_ros.ros.image_options import ImageOptions
from stream_vl_ros.ros.images import to_rgb

HEIGHT, WIDTH = 24, 40
Y, X = np.mgrid[:HEIGHT, :WIDTH]
# Smooth, so that JPEG keeps it nearly, and no two channels alike.
PICTURE = np.stack([6 * X, 250 - 10 * Y, 3 * X + 4 * Y], axis=-1).astype(np.uint8)
FORMATS = [
    "",
    "jpeg",
    "jpg",
    "png",
    "rgb8; jpeg compressed bgr8",
    "bgr8; jpeg compressed bgr8",
    "bgr8; png compressed bgr8",
    "rgb8; png compressed rgb8",
    "rgba8; png compressed bgr8",
    "rgb8;jpeg compressed",
]


def message(form: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(format=form, data=array.array("B", data))


def saved(picture: np.ndarray, codec: str, mode: str | None = None, **options: object) -> bytes:
    image = PIL.Image.fromarray(picture)
    out = io.BytesIO()
    (image.convert(mode) if mode else image).save(out, codec, **options)
    return out.getvalue()


def png(values: np.ndarray, width: int, height: int, bits: int, colour_type: int) -> bytes:
    """A PNG written by hand: `values` are the bytes of the rows; the header says what the other arguments say."""
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def gray_png(values: np.ndarray) -> bytes:
    """16-bit gray."""
    return png(values.astype(">u2").view(np.uint8), values.shape[1], values.shape[0], 16, 0)


def with_size(jpeg: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header claims another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def depth_rgb(values: np.ndarray, encoding: str, **options: float) -> np.ndarray:
    """What the raw image of these values becomes."""
    height, width = values.shape
    raw = SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=values.strides[0],
        data=values.tobytes(),
    )
    return to_rgb(raw, ImageOptions(**options))


def refused(form: str, data: bytes, reason: str, **options: int) -> str:
    with pytest.raises(FrameError) as raised:
        compressed_to_rgb(message(form, data), ImageOptions(**options))
    assert raised.value.reason == reason
    return str(raised.value)


def check(rgb: np.ndarray, picture: np.ndarray) -> None:
    assert (rgb.dtype, rgb.shape) == (np.uint8, picture.shape)
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable
    assert np.array_equal(rgb, picture)


@pytest.mark.parametrize("form", FORMATS)
def test_png(form):
    check(compressed_to_rgb(message(form, saved(PICTURE, "PNG"))), PICTURE)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg(form, options):
    rgb = compressed_to_rgb(message(form, saved(PICTURE, "JPEG", quality=95, **options)))
    assert (rgb.dtype, rgb.shape) == (np.uint8, PICTURE.shape)
    assert rgb.flags.c_contiguous
    assert np.abs(rgb.astype(int) - PICTURE).max() <= 12


@pytest.mark.parametrize("codec", ["PNG", "JPEG"])
def test_kinds_of_gray(codec):
    gray = PICTURE[:, :, 0]
    rgb = compressed_to_rgb(message("mono8; jpeg compressed mono8", saved(gray, codec, quality=100)))
    assert np.abs(rgb.astype(int) - gray[:, :, None]).max() <= (0 if codec == "PNG" else 2)
    assert (rgb == rgb[:, :, :1]).all()
    assert rgb.flags.c_contiguous


def test_transparency_is_dropped():
    alpha = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), dtype=np.uint8)
    check(compressed_to_rgb(message("png", saved(np.concatenate([PICTURE, alpha], axis=2), "PNG"))), PICTURE)
    both = np.concatenate([PICTURE[:, :, :1], alpha], axis=2)
    data = png(both.reshape(HEIGHT, -1), WIDTH, HEIGHT, 8, 4)
    check(compressed_to_rgb(message("png", data)), np.repeat(PICTURE[:, :, :1], 3, axis=2))


def test_palettes_and_single_bits():
    bits = (X + Y) % 3 == 0
    black_and_white = np.repeat(np.where(bits, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2)
    check(compressed_to_rgb(message("png", saved(bits, "PNG"))), black_and_white)
    palette = PIL.Image.fromarray(PICTURE).quantize(16)
    out = io.BytesIO()
    palette.save(out, "PNG")
    check(compressed_to_rgb(message("png", out.getvalue())), np.array(palette.convert("RGB")))


def test_16_bits_of_colour_keep_the_upper_eight():
    values = np.random.default_rng(2).integers(0, 1 << 16, (5, 7, 3))
    data = png(values.astype(">u2").view(np.uint8).reshape(5, -1), 7, 5, 16, 2)
    check(compressed_to_rgb(message("rgb16; png compressed bgr16", data)), (values // 256).astype(np.uint8))


@pytest.mark.parametrize("form", ["mono16; png compressed", "mono16; png compressed ", "png", ""])
def test_16_bits_of_gray_keep_the_upper_eight(form):
    values = np.random.default_rng(3).integers(0, 1 << 16, (5, 7))
    expected = np.repeat((values // 256).astype(np.uint8)[:, :, None], 3, axis=2)
    check(compressed_to_rgb(message(form, gray_png(values))), expected)


@pytest.mark.parametrize("form", ["16UC1; png compressed", "16UC1; png compressed ", " 16UC1 ;png"])
@pytest.mark.parametrize("depth_max_m", [4.0, 10.0])
def test_depth_in_millimetres(form, depth_max_m):
    values = np.random.default_rng(4).integers(0, 12000, (6, 5)).astype("<u2")
    values[0] = 0
    rgb = compressed_to_rgb(message(form, gray_png(values)), ImageOptions(depth_max_m=depth_max_m))
    check(rgb, depth_rgb(values, "16UC1", depth_max_m=depth_max_m))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_mosaics(pattern):
    """compressed_image_transport compresses a mosaic as if it were gray."""
    mosaic = np.random.default_rng(5).integers(0, 256, (6, 8), dtype=np.uint8)
    raw = SimpleNamespace(
        height=6, width=8, encoding=f"bayer_{pattern}8", is_bigendian=0, step=8, data=mosaic.tobytes()
    )
    check(compressed_to_rgb(message(f"bayer_{pattern}8; png compressed ", saved(mosaic, "PNG"))), to_rgb(raw))
    wide = gray_png(mosaic.astype(np.uint16) * 256 + 77)
    check(compressed_to_rgb(message(f"bayer_{pattern}16; png compressed ", wide)), to_rgb(raw))
    jpeg = saved(mosaic, "JPEG", quality=100)
    near = compressed_to_rgb(message(f"bayer_{pattern}8; jpeg compressed mono8", jpeg))
    assert np.abs(near.astype(int) - to_rgb(raw)).max() <= 4
    # Already in colour.
    check(compressed_to_rgb(message(f"bayer_{pattern}8; png compressed bgr8", saved(PICTURE, "PNG"))), PICTURE)


def test_too_small_a_mosaic():
    refused("bayer_rggb8; png compressed ", saved(np.zeros((1, 4), np.uint8), "PNG"), "too_small")


def test_a_real_message():
    image = CompressedImage(format="png", data=array.array("B", saved(PICTURE, "PNG")))
    check(compressed_to_rgb(image), PICTURE)


@pytest.mark.parametrize("form", ["jpeg", "png", "16UC1; jpeg compressed mono8", "16UC1; compressedDepth png", ""])
def test_empty_data(form):
    text = refused(form, b"", "empty_data")
    assert repr(form) in text
    assert "raw image" in text


@pytest.mark.parametrize("form", ["h264", "tiff", "rgb8; tiff compressed ", "nv12", "", "webp"])
def test_a_format_that_is_not_supported(form):
    text = refused(form, b"\x00\x00\x00\x01\x67\x42\x00\x0a", "unknown_encoding")
    assert repr(form) in text
    assert "00 00 00 01 67 42 00 0a" in text
    assert "jpeg and png" in text


@pytest.mark.parametrize("form", ["jpeg", "rgb8; jpeg compressed bgr8", "png", "bgr8; png compressed bgr8", "jpg"])
def test_data_that_is_not_what_it_says(form):
    text = refused(form, b"no picture at all", "bad_compressed")
    assert repr(form) in text
    assert "6e 6f 20 70 69 63 74 75" in text


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("kept", [4, 50, 0.3, 0.6, 0.9])
def test_a_jpeg_that_was_cut_off(options, kept):
    data = saved(PICTURE, "JPEG", quality=95, **options)
    text = refused("jpeg", data[: kept if kept > 1 else int(kept * len(data))], "bad_compressed")
    assert "cut off" in text


@given(st.data())
def test_damaged_files(data):
    """Whatever is wrong with a file: a picture or a `FrameError`, and no other exception."""
    codec = data.draw(st.sampled_from(["JPEG", "PNG"]))
    file = bytearray(saved(PICTURE, codec))
    for _ in range(data.draw(st.integers(0, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    file = file[: data.draw(st.integers(len(file) // 2, len(file)))]
    image = message(data.draw(st.sampled_from(FORMATS)), bytes(file))
    with warnings.catch_warnings(), contextlib.suppress(FrameError):
        warnings.simplefilter("ignore")
        rgb = compressed_to_rgb(image, ImageOptions(max_pixels=1_000_000))
        assert (rgb.dtype, rgb.ndim, rgb.shape[2]) == (np.uint8, 3, 3)


@pytest.mark.parametrize(
    "data",
    [
        png(np.zeros((1, 8), np.uint8), 60000, 60000, 8, 2),
        png(np.zeros((1, 8), np.uint8), 2**31 - 1, 2**31 - 1, 16, 6),
        png(np.zeros((1, 8), np.uint8), 8193, 8192, 8, 0),
        with_size(saved(PICTURE, "JPEG"), 65500, 65500),
    ],
    ids=["60000x60000", "largest", "just too large", "jpeg"],
)
def test_bombs(data, monkeypatch):
    """A small file that claims to be huge is refused before memory is taken for it."""
    monkeypatch.setattr(ImageFile, "load", lambda image: pytest.fail("was read"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = refused("png", data, "too_large")
    assert len(data) < 2000
    assert "67108864" in text


def test_the_limit_of_pixels():
    data = saved(PICTURE, "PNG")
    refused("png", data, "too_large", max_pixels=HEIGHT * WIDTH - 1)
    check(compressed_to_rgb(message("png", data), ImageOptions(max_pixels=HEIGHT * WIDTH)), PICTURE)


@pytest.mark.parametrize(("width", "height"), [(0, 4), (4, 0), (0, 0)])
def test_no_pixels(width, height):
    refused("png", png(np.zeros((4, 4), np.uint8), width, height, 8, 0), "bad_compressed")


def test_too_narrow_a_picture():
    refused("png", saved(np.zeros((1, 201), np.uint8), "PNG"), "aspect_ratio")


def inverse_depth(metres: np.ndarray, depth_max: float, quantization: float) -> bytes:
    """What compressed_depth_image_transport sends for 32FC1: its header, then codes of inverse depth as PNG."""
    a = quantization * (quantization + 1)
    b = 1 - a / depth_max
    with np.errstate(divide="ignore"):
        codes = np.where(metres < depth_max, a / metres + b, 0).astype(np.uint16)
    return struct.pack("<iff", 0, a, b) + gray_png(codes)


@pytest.mark.parametrize("form", ["32FC1; compressedDepth png", "32FC1; compressedDepth"])
def test_compressed_depth_in_metres(form):
    metres = np.linspace(0.4, 9.9, 48).reshape(6, 8).astype("<f4")
    metres[2, 3], metres[5, 7] = np.nan, 12.0
    rgb = compressed_to_rgb(message(form, inverse_depth(metres, 10.0, 100.0)))
    expected = depth_rgb(metres, "32FC1")
    # Beyond the transport's own range there is no measurement.
    expected[5, 7] = 0
    assert expected[2, 3, 0] == 0
    assert np.abs(rgb.astype(int) - expected).max() <= 1
    assert np.array_equal(rgb == 0, expected == 0)
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize(
    "form", ["16UC1; compressedDepth png", "16UC1; compressedDepth", "mono16; compressedDepth png"]
)
def test_compressed_depth_in_millimetres(form):
    values = np.random.default_rng(6).integers(0, 12000, (6, 5)).astype("<u2")
    data = struct.pack("<iff", 0, 0.0, 0.0) + gray_png(values)
    check(compressed_to_rgb(message(form, data)), depth_rgb(values, "16UC1"))


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (float("nan"), 1.0), (float("inf"), 0.0), (-5.0, 3.0), (1e30, 2.0)])
def test_a_senseless_header_of_compressed_depth(a, b):
    codes = np.arange(12).reshape(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rgb = compressed_to_rgb(
            message("32FC1; compressedDepth png", struct.pack("<iff", 0, a, b) + gray_png(codes))
        )  # fmt: skip
    assert rgb.shape == (3, 4, 3)
    assert rgb[0, 0].tolist() == [0, 0, 0]


def test_compressed_depth_that_is_not_supported():
    text = refused("16UC1; compressedDepth rvl", bytes(40), "unknown_encoding")
    assert "compressedDepth.format parameter to png" in text


@pytest.mark.parametrize("length", [1, 11, 12])
def test_compressed_depth_that_was_cut_off(length):
    assert f"{length} bytes" in refused("16UC1; compressedDepth png", bytes(length), "bad_compressed")


@pytest.mark.parametrize("inside", [saved(PICTURE, "PNG"), saved(PICTURE[:, :, 0], "JPEG")])
def test_compressed_depth_of_eight_bits(inside):
    assert "expected 16-bit gray" in refused("16UC1; compressedDepth png", bytes(12) + inside, "bad_compressed")


def test_compressed_depth_that_is_no_png():
    refused("16UC1; compressedDepth png", bytes(40), "bad_compressed")


def test_scans_without_end():
    """Each scan of a progressive JPEG is a few bytes and goes over the whole picture."""
    file = saved(PICTURE[:, :, 0], "JPEG", progressive=True)
    assert file.count(b"\xff\xda") < 15
    first = file.index(b"\xff\xda")
    second = file.index(b"\xff\xda", first + 2)
    third = file.index(b"\xff\xda", second + 2)
    text = refused("jpeg", file[:second] + file[second:third] * 1000 + file[third:], "bad_compressed")
    assert "scans" in text


def test_a_long_format_is_not_repeated_in_full():
    assert len(refused("x" * 1_000_000, b"no picture at all", "unknown_encoding")) < 500
