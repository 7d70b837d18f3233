"""Keys of the random stream: which Philox generator belongs to which tensor.

docs/stream-v1.md, section "Words". The generator itself is in the backends.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VALUE = b"value"
"""Purpose of the words that become values."""

MASK = b"mask"
"""Purpose of the words that choose the zeros of `sparse`."""

_WORDS = struct.Struct("<4I")


class Stream(NamedTuple):
    """The four 32-bit numbers that pick a stream of words.

    Word i is lane `i & 3` of Philox4x32-10 with key (d0, d1) and counter
    (lo32(i >> 2), hi32(i >> 2), d2, d3).
    """

    d0: int
    d1: int
    d2: int
    d3: int


def derive(purpose: bytes, seed: int, name: str) -> Stream:
    """The stream of a tensor.

    Args:
        purpose: `VALUE` or `MASK`.
        seed: within [0, 2^64).
        name: the tensor's stream name.
    """
    message = _prefix(purpose, seed) + name.encode()
    return Stream(*_WORDS.unpack_from(hashlib.sha256(message).digest()))


def derive_all(purpose: bytes, seed: int, names: Iterable[str]) -> NDArray[np.uint32]:
    """The streams of many tensors, as `derive` gives each: a uint32 array (n, 4)."""
    prefix, sha256 = _prefix(purpose, seed), hashlib.sha256
    digests = b"".join([sha256(prefix + name.encode()).digest() for name in names])
    words: NDArray[np.uint32] = np.frombuffer(digests, "<u4").reshape(-1, 8)[:, :4]
    return words.astype(np.uint32)


def _prefix(purpose: bytes, seed: int) -> bytes:
    return b"initserve.v1/" + purpose + b"\0" + seed.to_bytes(8, "little")
