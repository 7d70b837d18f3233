"""Files that rotate: whether new contents may be half of what somebody is writing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

SETTLED = 2.0
"""Seconds after which contents that do not change are no longer taken for half-written."""


def half_written(old: Sequence[bytes], new: Sequence[bytes]) -> bool:
    """Whether files that hold `new` now may be on the way from `old` to something else.

    A file that is written in place is empty first, and then grows: it ends in the middle of a
    line, or is the beginning of the old file. Contents that were meant that way stay.
    """
    return any(
        (before.endswith(b"\n") and not after.endswith(b"\n"))
        or (before != after and before.startswith(after))
        for before, after in zip(old, new, strict=True)
    )


def settled(paths: Iterable[str | os.PathLike[str]]) -> bool:
    """Whether files have stayed as they are for a while, by their own times.

    Raises:
        OSError: if there is no such file.
    """
    now = time.time()
    return all(now - _changed_at(os.stat(path), now) > SETTLED for path in paths)


def _changed_at(found: os.stat_result, now: float) -> float:
    """When a file was changed last."""
    if found.st_mtime > now + SETTLED:
        # A program has set it, such as one that unpacks an archive; it cannot set the other one.
        return found.st_ctime
    return max(found.st_mtime, found.st_ctime)
