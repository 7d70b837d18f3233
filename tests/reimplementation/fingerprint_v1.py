"""Fingerprints, written again from docs/fingerprint-v1.md alone, with the standard library only."""

import hashlib
import itertools
import struct
from collections.abc import Sequence

from tests.reimplementation.samples_v1 import philox


def fingerprint(
    name: str, shape: Sequence[int], bounds: Sequence[tuple[int, int]], data: bytes, size: int
) -> str:
    """The text of the fingerprint of a rectangular part.

    `data` holds its elements, `size` bytes each, row-major and little-endian.
    """
    digest = hashlib.sha256(b"initserve.v1/fingerprint" + b"\0" + name.encode("utf-8")).digest()
    key = struct.unpack("<II", digest[:8])
    lanes = [0, 0]
    places = itertools.product(*(range(start, stop) for start, stop in bounds))
    for number, place in enumerate(places):
        i = 0
        for position, length in zip(place, shape, strict=True):
            i = i * length + position
        b = int.from_bytes(data[number * size : (number + 1) * size], "little")
        words = philox((i % 2**32, i >> 32, b % 2**32, b >> 32), key)
        for lane in (0, 1):
            lanes[lane] += words[2 * lane] + (words[2 * lane + 1] << 32)
    return struct.pack("<QQ", *(lane % 2**64 for lane in lanes)).hex()
