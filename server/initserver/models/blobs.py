"""Files beside a plan by their contents: IDs as git has them, and pieces that can be checked.

A file on a disk can change while it is sent. So each piece is compared with the hash that it had
when the file was listed, and what is sent is what the ID says, or nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

PIECE_BYTES = 1 << 20
"""Bytes of a file that are read and checked at a time."""

MOST_BLOB_BYTES = 1 << 30
"""A larger file is not hashed: weights come from the plan, and other files are small."""


class BlobChangedError(Exception):
    """A file does not have the contents that it had when it was hashed."""


@dataclass(frozen=True)
class Blob:
    """The contents of a file.

    Attributes:
        path: where the file is.
        oid: the ID that git gives to these contents, 40 hexadecimal digits.
        size: bytes of the file.
        pieces: the SHA-256 of each piece.
    """

    path: str
    oid: str
    size: int
    pieces: tuple[bytes, ...]

    def read(self, begin: int, end: int) -> Iterator[bytes]:
        """Bytes begin .. end - 1, in pieces that have been checked.

        Raises:
            BlobChangedError: if the file is not there, or has other contents now.
        """
        try:
            with open(self.path, "rb", opener=_open) as file:
                for number in range(begin // PIECE_BYTES, -(-end // PIECE_BYTES)):
                    at = number * PIECE_BYTES
                    file.seek(at)
                    piece = file.read(PIECE_BYTES)
                    if hashlib.sha256(piece).digest() != self.pieces[number]:
                        raise BlobChangedError(f"{self.path} has changed")
                    yield piece[max(begin - at, 0) : end - at]
        except OSError as error:
            raise BlobChangedError(f"{self.path} cannot be read: {error.strerror}") from None


def blob_id(data: bytes) -> str:
    """The ID that git gives to these contents, 40 hexadecimal digits."""
    return _git_hash(len(data), data).hexdigest()


def blob_of(path: str) -> Blob:
    """Hashes a file.

    Raises:
        OSError: if it cannot be read.
        BlobChangedError: if it changes meanwhile.
        ValueError: if it is too large, or no regular file.
    """
    with open(path, "rb", opener=_open) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{os.path.basename(path)} is not a regular file")
        size = status.st_size
        if size > MOST_BLOB_BYTES:
            raise ValueError(
                f"{os.path.basename(path)} has {size} bytes; a file beside a plan may have "
                f"{MOST_BLOB_BYTES}"
            )
        whole, pieces, seen = _git_hash(size), [], 0
        while seen <= size and (piece := file.read(PIECE_BYTES)):
            whole.update(piece)
            pieces.append(hashlib.sha256(piece).digest())
            seen += len(piece)
    if seen != size:
        raise BlobChangedError(f"{path} changed while it was read")
    return Blob(path, whole.hexdigest(), size, tuple(pieces))


def _open(path: str, flags: int) -> int:
    # Without the flag a pipe that was put there would block until somebody writes to it.
    return os.open(path, flags | os.O_NONBLOCK)


def _git_hash(size: int, data: bytes = b"") -> hashlib._Hash:
    """SHA-1 as git takes it; it names contents and protects nothing."""
    found = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    found.update(data)
    return found
