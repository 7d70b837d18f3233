"""Standard output as the place of a file: `--out -`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

STANDARD_OUTPUT = "-"
"""The path that stands for it."""


@contextmanager
def binary_output() -> Iterator[BinaryIO]:
    """Standard output for bytes, while the body runs.

    Raises:
        ValueError: if it is a terminal, on which bytes would move the cursor and hide text.
    """
    out = sys.stdout
    if out.isatty():
        raise ValueError(
            "--out is -, and standard output is a terminal; give a file, or send it on, as in "
            "--out - > FILE"
        )
    out.flush()
    yield out.buffer
    out.buffer.flush()
