"""The limits of a server: how much a request may ask for, and how much the server caches.

A limit is declared once, as a field of `Limits`: default, flag, help and bounds. Its flag and
its environment variable are made from that, `GetServerInfo` shows it if the message has a field
of its name, and a request above `max_x` is refused with the reason MAX_X.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from initcore.file import MAX_HEADER_BYTES
from initcore.resolve import MAX_MATRIX_ELEMENTS

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


def _limit(default: int, flag: str, text: str, *, least: int = 1, most: int = 2**63 - 1) -> Any:
    metadata = {"flag": flag, "help": text, "least": least, "most": most}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server. Every field is an integer with `flag` and `help` as metadata.

    Attributes:
        max_tensors: tensors in one plan. Checked before the plan is laid out.
        max_header_bytes: bytes of the header of a plan's file. Estimated before the plan is
            laid out, so that long names cost nothing.
        max_fetch_bytes: bytes that one Fetch sends.
        max_fingerprint_bytes: bytes of tensors that one Describe fingerprints.
        max_matrix_elements: elements of a matrix that has to exist whole.
        max_streams: Fetch calls at the same time; one more is refused, with a time to retry.
        max_stall_seconds: a download whose reader takes nothing for this long is ended when
            another call needs its place among `max_streams`.
        max_request_bytes: bytes of a request's message. gRPC itself enforces it.
        cache_bytes: bytes of chunks in the cache. Three quarters are for files that fit into
            them, which are kept whole.
        matrix_cache_bytes: bytes of recent orthogonal matrices and bounds of sparse columns in
            the cache. The latest one is kept even if it alone is larger: otherwise every chunk
            of a file would compute it again.

    Raises:
        ValueError: if a value is not an integer within its bounds.
    """

    max_tensors: int = _limit(
        100_000, "--max-tensors", "the most tensors in one plan, parts included"
    )
    max_header_bytes: int = _limit(
        16 * _MIB,
        "--max-header-bytes",
        "the most bytes in the header of a plan's file, which has names and shapes",
        most=MAX_HEADER_BYTES,
    )
    max_fetch_bytes: int = _limit(
        1 << 44, "--max-fetch-bytes", "the most bytes that one Fetch may ask for"
    )
    max_fingerprint_bytes: int = _limit(
        4 * _GIB,
        "--max-fingerprint-bytes",
        "the most bytes of tensors that one Describe may fingerprint; clients split a larger "
        "request",
    )
    max_matrix_elements: int = _limit(
        MAX_MATRIX_ELEMENTS,
        "--max-matrix-elements",
        "the most elements of one orthogonal matrix, which has to be in memory as a whole",
    )
    max_streams: int = _limit(
        64,
        "--max-streams",
        "the most downloads at the same time in each process; the server asks a further caller to "
        "try again later",
        most=10_000,
    )
    max_stall_seconds: int = _limit(
        60,
        "--max-stall-seconds",
        "how long the reader of a download may read nothing. After that the server ends the "
        "download if another call needs its place; the client fetches the rest later",
        most=86_400,
    )
    max_request_bytes: int = _limit(
        16 * _MIB,
        "--max-request-bytes",
        "the most bytes of one request; a plan takes about 60 bytes for each tensor",
        least=64 * _KIB,
        most=2**31 - 1,
    )
    cache_bytes: int = _limit(
        512 * _MIB,
        "--cache-bytes",
        "memory for chunks, so that clients of one plan share the work. Files of up to three "
        "quarters of it stay whole; larger ones pass through the last quarter. With 0, only "
        "clients that ask at the same time share",
        least=0,
    )
    matrix_cache_bytes: int = _limit(
        1 * _GIB,
        "--matrix-cache-bytes",
        "memory for the latest orthogonal matrices; the last one stays even if it is larger",
        least=0,
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value, least, most = (
                getattr(self, one.name),
                one.metadata["least"],
                one.metadata["most"],
            )
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(
                    f"{one.name} is {value!r}; it must be an integer within {least}..{most}"
                )
