"""Stamps inside serialized messages."""

from __future__ import annotations

import struct

import pytest

from stream_vl_ros.bag.cdr import read_stamp, with_stamp
from stream_vl_ros.errors import BagError


@pytest.mark.parametrize("endian", ["<", ">"])
def test_replaces_the_stamp_and_nothing_else(endian: str) -> None:
    head = b"\x00\x01\x00\x00" if endian == "<" else b"\x00\x00\x00\x00"
    data = head + struct.pack(f"{endian}iI", 12, 34) + b"the rest"
    assert read_stamp(data) == 12_000_000_034
    other = with_stamp(data, 56_000_000_078)
    assert other == head + struct.pack(f"{endian}iI", 56, 78) + b"the rest"


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x00\x00", b"\x07\x07" + bytes(20)])
def test_no_message(data: bytes) -> None:
    with pytest.raises(BagError):
        read_stamp(data)


def test_a_stamp_beyond_the_field() -> None:
    with pytest.raises(BagError, match="32 bits"):
        with_stamp(b"\x00\x01\x00\x00" + bytes(8), 2**31 * 10**9)
