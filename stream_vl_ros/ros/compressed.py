"""`sensor_msgs/CompressedImage` to RGB: JPEG and PNG, and the PNG of compressed_depth_image_transport.

What a message holds is told by its first bytes. Its `format` says what the values mean ("16UC1; png compressed" is
depth, "bayer_rggb8; jpeg compressed mono8" a mosaic) and is often just "jpeg"; `sensor_msgs/msg/CompressedImage.msg`
describes it, ros-perception/image_transport_plugins writes it. Colours are those of the file: the "bgr8" behind
"compressed" is how OpenCV held the picture when it wrote it. An orientation in EXIF is not applied: camera drivers mean
the pixels as they are.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Protocol

import numpy as np
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from stream_vl_ros.brief import brief, shown
from stream_vl_ros.errors import FrameError
from stream_vl_ros.ros import bayer, depth
from stream_vl_ros.ros.image_options import DEFAULTS, ImageOptions, check_dimensions
from stream_vl_ros.ros.pixels import gray_to_rgb

_SIGNATURES: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
)
# compressed_depth_image_transport's ConfigHeader, in the byte order of nearly every robot.
_DEPTH_HEADER = struct.Struct("<iff")
# A progressive JPEG is read once in full for each of its scans, and a few bytes make one. Encoders write about ten.
_SCAN, _MAX_SCANS = b"\xff\xda", 100


class CompressedMessage(Protocol):
    """The fields of `sensor_msgs/msg/CompressedImage` that are read."""

    format: str
    data: Any  # bytes, or an array of them


def compressed_to_rgb(message: CompressedMessage, options: ImageOptions = DEFAULTS) -> np.ndarray:
    """The picture of a message: C-contiguous uint8 of shape (height, width, 3) in RGB order.

    Transparency is dropped. 16-bit gray is depth in millimetres where `format` begins with 16UC1 and loses the lower
    eight bits otherwise; a gray picture whose `format` begins with bayer_ is demosaiced.

    Raises `FrameError` with reason ``empty_data``, ``unknown_encoding``, ``bad_compressed``, ``aspect_ratio``,
    ``too_large``, ``too_small``.
    """
    data = bytes(message.data)
    if not data:
        raise FrameError(
            "empty_data",
            f"compressed image of format {shown(message.format)} holds no data: image_transport publishes that for an "
            "encoding that its plug-in cannot compress; subscribe to the raw image, or choose another transport",
        )
    original, _, codec = (part.strip() for part in message.format.partition(";"))
    if "compressedDepth" in message.format:
        return _depth_to_rgb(data, original, message.format, options)
    pixels = _decode(data, message.format, codec or original, options)
    if pixels.ndim == 3:
        return pixels
    if pixels.dtype == np.uint16:
        if original == "16UC1":
            return gray_to_rgb(depth.gray_of_millimetres(pixels, options.depth_max_m))
        pixels = (pixels >> 8).astype(np.uint8)
    pattern = original.removeprefix("bayer_").rstrip("0123456789")
    if original.startswith("bayer_") and pattern in bayer.PATTERNS:
        return bayer.demosaic(pixels, pattern)
    return gray_to_rgb(pixels)


def _depth_to_rgb(data: bytes, original: str, form: str, options: ImageOptions) -> np.ndarray:
    """A header of 12 bytes, then 16-bit gray: millimetres, or codes of inverse depth for what was floating point."""
    if len(data) <= _DEPTH_HEADER.size:
        raise FrameError(
            "bad_compressed",
            f"compressed depth image of {len(data)} bytes: no more than its header; it was cut off on its way",
        )
    if "rvl" in form:
        raise FrameError(
            "unknown_encoding",
            f"compressed image format {shown(form)} is not supported: set the camera's "
            "compressedDepth.format parameter to png, or subscribe to the raw image",
        )
    _, a, b = _DEPTH_HEADER.unpack_from(data)
    pixels = _decode(data[_DEPTH_HEADER.size :], form, "png", options)
    if pixels.dtype != np.uint16:
        raise FrameError(
            "bad_compressed",
            f"compressed depth image of format {shown(form)} holds a picture of {pixels.dtype} with shape "
            f"{pixels.shape}: expected 16-bit gray; check the camera driver",
        )
    if original.startswith("32FC1"):
        return gray_to_rgb(depth.gray_of_inverse(pixels, a, b, options.depth_max_m))
    return gray_to_rgb(depth.gray_of_millimetres(pixels, options.depth_max_m))


def _decode(data: bytes, form: str, codec: str, options: ImageOptions) -> np.ndarray:
    """The pixels of a file: uint8 of shape (height, width, 3), or gray of shape (height, width) in uint8 or uint16."""
    reader = next((reader for signature, reader in _SIGNATURES if data.startswith(signature)), None)
    if reader is None:
        start = data[:8].hex(" ")
        if any(known in codec for known in ("jpeg", "jpg", "png")):
            raise FrameError(
                "bad_compressed",
                f"compressed image says {shown(form)} but begins with {start}, which is neither JPEG nor PNG: it was "
                "damaged on its way, or the camera driver is wrong",
            )
        raise FrameError(
            "unknown_encoding",
            f"compressed image format {shown(form)} (beginning with {start}) is not supported; supported are jpeg and "
            "png: set the camera driver to one of them, or subscribe to the raw image",
        )
    try:
        # The reader and not PIL.Image.open, whose limit of pixels is the whole process's and warns before it refuses.
        image = reader(io.BytesIO(data))
        width, height = image.size
        check_dimensions(height, width, options)
        if reader is JpegImageFile:
            _check_scans(data)
        image.load()
        return _to_array(image)
    except FrameError:
        raise
    except Exception as error:
        # Damaged files make Pillow raise nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
        raise FrameError(
            "bad_compressed",
            f"compressed image of format {shown(form)} and {len(data)} bytes cannot be read ({type(error).__name__}: "
            f"{brief(str(error), 300)}): it was cut off or damaged on its way; look at the network and the "
            "camera's cable",
        ) from error


def _check_scans(data: bytes) -> None:
    """Raise `FrameError` for a JPEG of so many scans that it can only mean to keep its reader busy."""
    # Within a scan's own data a 0xff is always followed by something else.
    scans = data.count(_SCAN)
    if scans > _MAX_SCANS:
        raise FrameError(
            "bad_compressed",
            f"compressed image of {len(data)} bytes holds {scans} scans: more than {_MAX_SCANS} are not read, since "
            "each takes as long as a whole picture; check what publishes it",
        )


def _to_array(image: ImageFile) -> np.ndarray:
    if image.mode.startswith("I"):
        return np.array(image).astype(np.uint16, copy=False)
    return np.array(image if image.mode == "L" else image.convert("RGB"))
