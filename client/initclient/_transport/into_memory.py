"""Receives ranges of a plan's file into existing memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from initclient._compute import Track
from initclient._files import Scattered
from initclient._source import Request
from initclient._transport.blocking import download


def download_ranges(
    request: Request, places: Sequence[tuple[int, NDArray[np.uint8]]], track: Track
) -> tuple[str, ...]:
    """Receives ranges of a plan's file.

    Args:
        request: the plan.
        places: each range's first byte in the file, and its memory.
        track: counts the bytes.

    Returns:
        The servers' warnings about the plan.

    Raises:
        InitserveError: if no server delivers all ranges; some memory is filled then.
    """
    sink = Scattered(places)
    if not sink.ranges:
        return ()
    nbytes = sum(end - begin for begin, end in sink.ranges)
    return download(request, sink, track.step(nbytes), sink.ranges)
