"""Chunks as bytes on the wire, without protobuf's copies of their data.

A protobuf `bytes` field takes only `bytes`, so a generated message would copy the data
into itself and once more when it is serialized. Here the few bytes around the data are
written by hand and everything is joined once. tests/server holds the result against the
generated code.
"""

from __future__ import annotations

from dataclasses import dataclass

import google_crc32c
import numpy as np
from initserve.v1 import service_pb2

# Tags: field number << 3 | wire type.
_RESPONSE_CHUNK = b"\x12"  # FetchResponse.chunk = 2, length-delimited
_OFFSET = b"\x08"  # Chunk.offset = 1, varint
_DATA = b"\x12"  # Chunk.data = 2, length-delimited
_CRC32C = b"\x1d"  # Chunk.crc32c = 3, four bytes


@dataclass(frozen=True, slots=True)
class OutgoingChunk:
    """Some bytes of a file, on their way: the message `Chunk`, with its data in place."""

    offset: int
    data: memoryview
    crc32c: int


def checksum(data: memoryview) -> int:
    """CRC-32C of contiguous bytes."""
    if google_crc32c.implementation == "c":
        # The C code refuses memoryviews, but reads the same memory as an array.
        return int(google_crc32c.value(np.frombuffer(data, dtype=np.uint8)))
    return int(google_crc32c.value(bytes(data)))


def serialize_response(message: service_pb2.FetchResponse | OutgoingChunk) -> bytes:
    """Exactly the bytes of SerializeToString, for either form of a response."""
    if isinstance(message, OutgoingChunk):
        return _serialize_chunk(message)
    return message.SerializeToString()


def _serialize_chunk(chunk: OutgoingChunk) -> bytes:
    # Fields that hold zero, or nothing, are left out, as proto3 has it.
    length = chunk.data.nbytes
    head = _OFFSET + _varint(chunk.offset) if chunk.offset else b""
    if length:
        head += _DATA + _varint(length)
    tail = _CRC32C + chunk.crc32c.to_bytes(4, "little") if chunk.crc32c else b""
    size = _varint(len(head) + length + len(tail))
    return b"".join((_RESPONSE_CHUNK, size, head, chunk.data, tail))


def _varint(value: int) -> bytes:
    """Seven bits a byte, least significant first, the top bit set on all but the last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
