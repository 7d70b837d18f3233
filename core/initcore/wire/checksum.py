"""CRC-32C, the checksum of chunks and of partial files (RFC 3720, appendix B.4)."""

from __future__ import annotations

import google_crc32c
import numpy as np


def crc32c(data: memoryview, before: int = 0) -> int:
    """The CRC-32C of contiguous bytes.

    Args:
        data: the bytes.
        before: the CRC-32C of the bytes in front of them, if there are any.
    """
    if google_crc32c.implementation == "c":
        # The C code refuses memoryviews, but reads the same memory as an array.
        return int(google_crc32c.extend(before, np.frombuffer(data, dtype=np.uint8)))
    return int(google_crc32c.extend(before, bytes(data)))
