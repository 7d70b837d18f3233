"""Spot checks of a download: this process recomputes a few elements of each tensor.

The checksums of a download find damage on the way. They do not find a server that computes other
values and checksums those. A server cannot prepare for these positions: they are drawn from the
system's random source after the last byte has arrived.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial as partial_function

from initcore import Entry, VirtualFile
from initcore.backends import load
from initcore.generate import is_elementwise
from initcore.show import counted

from initclient._checking.comparison import position_of
from initclient._exceptions import IntegrityError
from initclient._files import Outputs, PartialFiles
from initclient._machine import here
from initclient._source import Request

# Names in a warning.
_SHOWN = 3


def check_count(check: int) -> int:
    """The number of elements to recompute of each tensor.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is negative.
    """
    if isinstance(check, bool):
        raise TypeError(f"check={check!r} is not a number; check=8 recomputes 8 elements a tensor")
    try:
        count = operator.index(check)
    except TypeError:
        raise TypeError(
            f"check={check!r} is not a whole number; check=8 recomputes 8 elements a tensor"
        ) from None
    if count < 0:
        raise ValueError(f"check={check!r} is negative; 0 recomputes nothing")
    return count


def check_elements(request: Request, count: int, read: Callable[[int, int], bytes]) -> list[str]:
    """Recomputes elements of each tensor at secret positions, and compares them with a download.

    Tensors that are not elementwise (orthogonal, pretrained and what is composed of these) are
    not checked; the warning names them.

    Args:
        request: the plan's file, which came from a service.
        count: elements of each tensor; a tensor with fewer is recomputed whole.
        read: bytes of the downloaded file, from an offset on and as many as asked for.

    Returns:
        Warnings: one, or none if all tensors were checked.

    Raises:
        IntegrityError: if an element differs, naming the tensor and the position.
    """
    if not count or request.service is None:
        return []
    layout, source = request.layout, ", ".join(request.service.addresses)
    draw = here().secret()
    file = VirtualFile(layout, load("numpy"))
    left_out = []
    for entry in layout.entries:
        tensor = entry.tensor
        if not is_elementwise(tensor):
            left_out.append(tensor.name)
            continue
        size = tensor.dtype.itemsize
        for position in draw.sample(range(tensor.count), min(count, tensor.count)):
            offset = entry.begin + position * size
            made, found = bytes(file.read(offset, size)), read(offset, size)
            if made != found:
                raise IntegrityError(_difference(entry, position, made, found, source))
    return [_unchecked(left_out)] if left_out else []


def check_files(request: Request, outputs: Outputs, partial: PartialFiles, count: int) -> list[str]:
    """Like `check_elements`, for files that were downloaded and are not published yet.

    Raises:
        IntegrityError: if an element differs; nothing of the files is kept then.
    """
    warnings: list[str] = []
    try:
        for number, output in enumerate(outputs.files):
            part = request.of(output.layout)
            warnings += check_elements(part, count, partial_function(partial.read, number))
    except IntegrityError:
        partial.discard()
        raise
    return warnings


def _difference(entry: Entry, position: int, made: bytes, found: bytes, source: str) -> str:
    tensor = entry.tensor
    place = ", ".join(map(str, position_of(position, tensor.bounds)))
    return (
        f"tensor {tensor.name!r}: element [{place}] from {source} has the bits "
        f"{found[::-1].hex()}, and this process computes {made[::-1].hex()}; a server computes "
        "other values than the plan's: do not use its weights"
    )


def _unchecked(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"check: {counted(len(names), 'tensor')} ({shown}{rest}) cannot be recomputed by single "
        "elements, since orthogonal needs the whole matrix and pretrained the checkpoint; "
        'verify(weights, plan, target="local") recomputes them'
    )
