"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun, as in "1 tensor" and "1,200 tensors".

    >>> counted(2, "tensor")
    '2 tensors'
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_text(nbytes: int) -> str:
    """A number of bytes with a unit, as in "1.5 MiB"."""
    if nbytes < 1024:
        return f"{nbytes} B"
    power = min((nbytes.bit_length() - 1) // 10, 5)
    return f"{nbytes / 1024**power:.1f} {'KMGTP'[power - 1]}iB"
