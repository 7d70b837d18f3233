"""Chunks as bytes on the wire, without protobuf's copies of their data.

A protobuf `bytes` field takes only `bytes`, so a generated message would copy the data
into itself and once more when it is serialized. Here the few bytes around the data are
written by hand, and a chunk that is made for a message is made within it. tests/server holds
the result against the generated code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from initcore.wire import crc32c, write_varint
from initserve.v1 import service_pb2
from numpy.typing import NDArray

# Tags: field number << 3 | wire type.
_RESPONSE_CHUNK = b"\x12"  # FetchResponse.chunk = 2, length-delimited
_OFFSET = b"\x08"  # Chunk.offset = 1, varint
_DATA = b"\x12"  # Chunk.data = 2, length-delimited
_CRC32C = b"\x1d"  # Chunk.crc32c = 3, four bytes

# Bytes around the data of a chunk that is made in its message. The lengths take three bytes each
# and the offset seven, so that the data lies at a multiple of eight: a number may have more bytes
# than it needs. https://protobuf.dev/programming-guides/encoding/#varints
_HEAD, _TAIL = 16, 5
_LEAST, _MOST = 1 << 14, (1 << 21) - 1 - _HEAD - _TAIL
_OFFSET_BYTES = 7

Write = Callable[[NDArray[np.uint8]], None]
"""Writes the bytes of a chunk into memory whose address is a multiple of eight."""


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

    @classmethod
    def written(cls, offset: int, size: int, write: Write) -> OutgoingChunk:
        """The chunk of `size` bytes that a function writes: into the message itself, if it can."""
        if not _LEAST <= size <= _MOST or offset >= 1 << 7 * _OFFSET_BYTES:
            data = np.empty(size, np.uint8)
            write(data)
            return cls.of(offset, data.data)
        message = _new_bytes(None, _HEAD + size + _TAIL)
        place = (ctypes.c_uint8 * len(message)).from_address(_address(message))
        memory = np.frombuffer(memoryview(place), np.uint8)
        head = _RESPONSE_CHUNK + write_varint(len(message) - 4)
        head += _OFFSET + _padded(write_varint(offset)) + _DATA + write_varint(size)
        values = memory[_HEAD : _HEAD + size]
        write(values)
        tail = _CRC32C + crc32c(values.data).to_bytes(4, "little")
        memory[:_HEAD] = np.frombuffer(head, np.uint8)
        memory[_HEAD + size :] = np.frombuffer(tail, np.uint8)
        return cls(message, offset, memoryview(message)[_HEAD : _HEAD + size])

    @property
    def nbytes(self) -> int:
        """Bytes of the message."""
        return len(self.message)

    def part(self, begin: int, end: int) -> OutgoingChunk:
        """The chunk of bytes begin .. end - 1 of the file; itself, if these are all."""
        if end - begin == len(self.data):
            return self
        return self.of(begin, self.data[begin - self.offset : end - self.offset])


# New bytes that no other code knows yet may be written to, says Python's C API of this function.
_new_bytes = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.argtypes, _new_bytes.restype = (ctypes.c_void_p, ctypes.c_ssize_t), ctypes.py_object
_address = ctypes.pythonapi.PyBytes_AsString
_address.argtypes, _address.restype = (ctypes.py_object,), ctypes.c_void_p


def _padded(varint: bytes) -> bytes:
    """The same number in as many bytes as an offset has."""
    missing = _OFFSET_BYTES - len(varint)
    if not missing:
        return varint
    return varint[:-1] + bytes([varint[-1] | 0x80]) + b"\x80" * (missing - 1) + b"\0"


def serialize_response(message: service_pb2.FetchResponse | OutgoingChunk) -> bytes:
    """Exactly the bytes of SerializeToString, for either form of a response."""
    if isinstance(message, OutgoingChunk):
        return message.message
    return message.SerializeToString()
