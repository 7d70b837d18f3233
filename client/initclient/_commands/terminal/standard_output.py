"""Standard output as the place of a file: `--out -`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

STANDARD_OUTPUT = "-"
"""The path that stands for it."""


class DataCutError(Exception):
    """The reader of a command's data has closed the pipe, and has a part of them alone."""


@contextmanager
def binary_output() -> Iterator[BinaryIO]:
    """Standard output for bytes, while the body runs.

    Raises:
        DataCutError: if the reader has closed the pipe.
        ValueError: if it is closed, or a terminal, on which bytes would move the cursor and hide
            text.
    """
    if sys.stdout.isatty():
        raise ValueError(
            "--out is -, and standard output is a terminal; give a file, or send it on, as in "
            "--out - > FILE"
        )
    with _data_output():
        yield sys.stdout.buffer


def write_data(data: bytes) -> None:
    """Writes data to standard output, all of them.

    Raises:
        DataCutError: if the reader has closed the pipe.
        ValueError: if it is closed.
    """
    rest = memoryview(data)
    with _data_output():
        while rest:
            # Only a part is written where the reader leaves, if PYTHONUNBUFFERED is set.
            rest = rest[sys.stdout.buffer.write(rest) :]


@contextmanager
def _data_output() -> Iterator[None]:
    """The body writes data to standard output, which a program reads to their end.

    Raises:
        DataCutError: if the reader has closed the pipe.
        ValueError: if it is closed.
    """
    # None even where `sys.stdout` stands on the null device instead.
    if sys.__stdout__ is None:
        raise ValueError("standard output is closed; give a file to --out")
    try:
        sys.stdout.flush()
        yield
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise DataCutError from error
