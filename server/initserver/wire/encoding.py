"""Chunks as bytes on the wire, without protobuf's copies of their data.

A protobuf `bytes` field takes only `bytes`, so a generated message would copy the data
into itself and once more when it is serialized. Here the few bytes around the data are
written by hand and everything is joined once. tests/server holds the result against the
generated code.
"""

from __future__ import annotations

from dataclasses import dataclass

from initcore.wire import crc32c, write_varint
from initserve.v1 import service_pb2

# Tags: field number << 3 | wire type.
_RESPONSE_CHUNK = b"\x12"  # FetchResponse.chunk = 2, length-delimited
_OFFSET = b"\x08"  # Chunk.offset = 1, varint
_DATA = b"\x12"  # Chunk.data = 2, length-delimited
_CRC32C = b"\x1d"  # Chunk.crc32c = 3, four bytes


@dataclass(frozen=True, slots=True)
class OutgoingChunk:
    """Bytes of a file as a serialized `FetchResponse`.

    Attributes:
        message: the response as it goes over the wire.
        offset: position of the first byte in the file.
        data: the bytes, inside the message: there is no second copy of them.
    """

    message: bytes
    offset: int
    data: memoryview

    @classmethod
    def of(cls, offset: int, data: memoryview) -> OutgoingChunk:
        """The chunk of these contiguous bytes: a copy, with their checksum."""
        # proto3 leaves out fields that hold zero or nothing.
        length, checksum = data.nbytes, crc32c(data)
        head = _OFFSET + write_varint(offset) if offset else b""
        if length:
            head += _DATA + write_varint(length)
        tail = _CRC32C + checksum.to_bytes(4, "little") if checksum else b""
        head = _RESPONSE_CHUNK + write_varint(len(head) + length + len(tail)) + head
        message = b"".join((head, data, tail))
        return cls(message, offset, memoryview(message)[len(head) : len(head) + length])

    @property
    def nbytes(self) -> int:
        """Bytes of the message."""
        return len(self.message)

    def part(self, begin: int, end: int) -> OutgoingChunk:
        """The chunk of bytes begin .. end - 1 of the file; itself, if these are all."""
        if end - begin == len(self.data):
            return self
        return self.of(begin, self.data[begin - self.offset : end - self.offset])


def serialize_response(message: service_pb2.FetchResponse | OutgoingChunk) -> bytes:
    """Exactly the bytes of SerializeToString, for either form of a response."""
    if isinstance(message, OutgoingChunk):
        return message.message
    return message.SerializeToString()
