"""The header stamp inside a serialized message, read and replaced without decoding the rest.

Every message whose first field is a `std_msgs/Header` starts, in CDR, with four bytes of encapsulation, then
`sec` (int32) and `nanosec` (uint32).
"""

from __future__ import annotations

import struct

from stream_vl_ros.errors import BagError, FrameError

NANOSECONDS = 1_000_000_000
_STAMP_END = 12
_STAMP_FORMATS = {0: ">iI", 1: "<iI"}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def read_stamp(data: bytes) -> int:
    """Header stamp in nanoseconds.

    Raises:
        BagError: `data` is not a CDR message with a header.
    """
    seconds, nanoseconds = struct.unpack_from(_stamp_format(data), data, 4)
    return int(seconds) * NANOSECONDS + int(nanoseconds)


def check_stamp(data: bytes) -> None:
    """Pass if the header stamp is a time. Raises `FrameError` with reason ``bad_stamp`` otherwise."""
    seconds, nanoseconds = struct.unpack_from(_stamp_format(data), data, 4)
    if seconds < 0 or nanoseconds >= NANOSECONDS:
        raise FrameError(
            "bad_stamp",
            f"header stamp of {seconds} s and {nanoseconds} ns is no time: seconds must not be negative, "
            "nanoseconds below 1e9; check the camera driver",
        )


def with_stamp(data: bytes, stamp: int) -> bytes:
    """The same message with another header stamp (nanoseconds).

    Raises:
        BagError: `data` is not a CDR message with a header, or the stamp does not fit into int32 seconds.
    """
    form = _stamp_format(data)
    seconds, nanoseconds = divmod(stamp, NANOSECONDS)
    if not -(2**31) <= seconds < 2**31:
        raise BagError(f"Stamp {stamp} ns does not fit into a ROS header: {seconds} s is beyond 32 bits.")
    return b"".join((data[:4], struct.pack(form, seconds, nanoseconds), memoryview(data)[_STAMP_END:]))


def _stamp_format(data: bytes) -> str:
    if len(data) < _STAMP_END:
        raise BagError(f"Message of {len(data)} bytes is too short to hold a header; the bag is damaged.")
    if data[:4] == _ZSTD_MAGIC:
        raise BagError(
            "The messages are compressed one by one (zstd), which only metadata.yaml can tell. "
            "Give the bag's folder, with its metadata.yaml, instead of the single file."
        )
    form = _STAMP_FORMATS.get(data[1]) if data[0] == 0 else None
    if form is None:
        raise BagError(f"Message starts with {data[:4].hex(' ')}, which is not plain CDR; only CDR bags are supported.")
    return form
