"""Parses messages of a download without copying their data.

The generated parser would copy every chunk's data. This parser reads the few bytes around it and
leaves the data in gRPC's buffer. It reads only the form that servers write; the generated parser
reads all others. tests/client compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError
from initcore.wire import read_varint
from initserve.v1 import service_pb2

# Tags: field number << 3 | wire type.
_RESPONSE_CHUNK = 0x12  # FetchResponse.chunk = 2, length-delimited
_OFFSET = 0x08  # Chunk.offset = 1, varint
_DATA = 0x12  # Chunk.data = 2, length-delimited
_CRC32C = 0x1D  # Chunk.crc32c = 3, four bytes


@dataclass(frozen=True, slots=True)
class IncomingChunk:
    """Some bytes of a file: the message `Chunk`, with its data in gRPC's buffer."""

    offset: int
    data: memoryview
    crc32c: int


def parse_response(
    raw: bytes,
) -> service_pb2.FileInfo | IncomingChunk | service_pb2.Working | None:
    """The payload of a message of a download; None if this version does not know it.

    Raises:
        ValueError: if the bytes are no message.
    """
    chunk = _parse_chunk(raw)
    if chunk is not None:
        return chunk
    try:
        message = service_pb2.FetchResponse.FromString(raw)
    except DecodeError as error:
        raise ValueError("not a message of this service") from error
    match message.WhichOneof("payload"):
        case "info":
            return message.info
        case "chunk":
            other = message.chunk
            return IncomingChunk(other.offset, memoryview(other.data), other.crc32c)
        case "working":
            return message.working
        case _:
            return None


def _parse_chunk(raw: bytes) -> IncomingChunk | None:
    """A chunk in the form that servers write: each field once, in order; None for any other."""
    try:
        if raw[0] != _RESPONSE_CHUNK:
            return None
        length, at = read_varint(raw, 1)
        if at + length != len(raw):
            return None
        offset, data, crc32c = 0, memoryview(b""), 0
        if at < len(raw) and raw[at] == _OFFSET:
            offset, at = read_varint(raw, at + 1)
        if at < len(raw) and raw[at] == _DATA:
            size, at = read_varint(raw, at + 1)
            if at + size > len(raw):
                return None
            data = memoryview(raw)[at : at + size]
            at += size
        if at + 5 == len(raw) and raw[at] == _CRC32C:
            crc32c = int.from_bytes(raw[at + 1 :], "little")
            at += 5
    except (IndexError, ValueError):
        return None
    return IncomingChunk(offset, data, crc32c) if at == len(raw) else None
