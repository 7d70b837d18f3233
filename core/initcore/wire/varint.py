"""Varints: the integers of protobuf's wire format, seven bits a byte, the lowest first.

https://protobuf.dev/programming-guides/encoding/#varints
"""

from __future__ import annotations

_LONGEST = 10
"""Bytes of a varint of 64 bits."""


def write_varint(value: int) -> bytes:
    """The bytes of a number of at most 64 bits, in the shortest form."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a position, and the position behind it.

    Raises:
        ValueError: if it does not end, or has more than 64 bits.
    """
    value = shift = 0
    for position in range(at, min(at + _LONGEST, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position + 1
        shift += 7
    raise ValueError(f"a varint that does not end, at byte {at}")
