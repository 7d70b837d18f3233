"""Headers of safetensors files, read exactly as strictly as the safetensors library reads them.

The library itself decides. It gets the header in a sparse file in memory, of the size of the
real one: it maps its files, and a mapped file that someone cuts kills the process with SIGBUS.
What is written here is the reason for a refusal, with tensor and field, which the library does
not always name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from initcore.dtypes import DTYPES

MAX_HEADER_BYTES = 100_000_000
"""The longest header that the format allows."""

# Bits of the element types of the format; no plan has those that are listed here one by one.
_BITS = {name: 8 * dtype.itemsize for name, dtype in DTYPES.items()} | {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "C64": 64,
}
_FIELDS = ("dtype", "shape", "data_offsets")
_SHOWN = 80
_LINKS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file.

    Attributes:
        dtype: the format's name of its element type, which a plan may not know.
        shape: its shape.
        begin: its first byte in the file.
        end: the byte past its last.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class HeaderError(ValueError):
    """A file is not a safetensors file; the text is the reason.

    Attributes:
        tensor: the tensor at fault; None for the file itself.
        field: the field at fault, such as "data_offsets"; "" if there is none.
    """

    def __init__(self, reason: str, tensor: str | None = None, field: str = "") -> None:
        where = "" if tensor is None else f"tensor {shown(tensor)}: "
        super().__init__(f"{where}{field}{' ' if field else ''}{reason}")
        self.tensor = tensor
        self.field = field


def read_header(descriptor: int) -> dict[str, StoredTensor]:
    """The tensors that the header of a safetensors file lists.

    Args:
        descriptor: the file, open for reading.

    Returns:
        The tensors by name, in the order of the header.

    Raises:
        HeaderError: for every file that the safetensors library refuses.
        OSError: if the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    size = os.fstat(descriptor).st_size
    length = int.from_bytes(_read(descriptor, 8, 0), "little")
    if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
        raise HeaderError(
            f"its first 8 bytes announce a header of {length} bytes; the file has {size}, and at "
            f"most {MAX_HEADER_BYTES} are allowed"
        )
    header = _read(descriptor, length, 8)
    try:
        with (
            _stand_in(descriptor, header, size) as path,
            safe_open(path, framework="numpy"),
        ):
            pass
    except SafetensorError as error:
        raise _reason(header, size - 8 - length, str(error)) from None
    data = 8 + length
    found = {}
    for name, form in json.loads(header.decode()).items():
        if name != "__metadata__":
            # The library also takes the fields of a tensor as a list, in this order.
            dtype, shape, offsets = (
                [form[field] for field in _FIELDS] if isinstance(form, dict) else form
            )
            # And the name of a type as the key of an object.
            dtype = dtype if isinstance(dtype, str) else next(iter(dtype))
            begin, end = offsets
            found[name] = StoredTensor(dtype, tuple(shape), data + begin, data + end)
    return found


@contextmanager
def _stand_in(descriptor: int, header: bytes, size: int) -> Iterator[str]:
    """The path of a file with this header, of this size, that nobody else can cut."""
    try:
        other = os.memfd_create("header", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        # A system without files in memory: the file itself.
        yield f"{_LINKS}/{descriptor}"
        return
    try:
        try:
            os.ftruncate(other, size)
            _write(other, len(header).to_bytes(8, "little") + header)
        except OSError:
            # A limit on the size of files that this process may write.
            yield f"{_LINKS}/{descriptor}"
        else:
            yield f"{_LINKS}/{other}"
    finally:
        os.close(other)


def _reason(header: bytes, nbytes: int, theirs: str) -> HeaderError:
    """Why a header is refused.

    Args:
        header: the header.
        nbytes: bytes of the file's data.
        theirs: the reason that the library gives.
    """
    unknown = HeaderError(f"the safetensors library says: {shown(theirs, quoted=False)}")
    try:
        form = json.loads(header.decode())
    except (ValueError, RecursionError):
        return unknown
    if not isinstance(form, dict):
        return HeaderError("the header is not a JSON object")
    metadata = form.pop("__metadata__", None) or {}
    for key, value in metadata.items() if isinstance(metadata, dict) else [("", metadata)]:
        if not isinstance(value, str):
            return HeaderError(f"{shown(key)} is {shown(value)}, not text", None, "__metadata__")
    for name, entry in form.items():
        wrong = _wrong(entry, theirs)
        if wrong:
            return HeaderError(wrong[1], name, wrong[0])
    return _misplaced(form, nbytes) or _newer(form, theirs) or unknown


def _newer(form: dict[str, Any], theirs: str) -> HeaderError | None:
    """The tensor of an element type that the library may be too old for: 0.4 does not name it."""
    for name, entry in form.items() if "InvalidHeaderDeserialization" in theirs else ():
        if entry["dtype"] not in DTYPES:
            why = f"is {shown(entry['dtype'])}, which this release of the library does not read"
            return HeaderError(why, name, "dtype")
    return None


def _misplaced(form: dict[str, Any], nbytes: int) -> HeaderError | None:
    """The tensor that leaves a gap, or overlaps another one."""
    end, before = 0, ""
    for first, last, name in sorted((*entry["data_offsets"], name) for name, entry in form.items()):
        if first != end:
            after = f"tensor {shown(before)} ends" if before else "the data begins"
            why = f"are {[first, last]}; {after} at {end}, and there may be neither gap nor overlap"
            return HeaderError(why, name, "data_offsets")
        end, before = last, name
    if end != nbytes:
        why = f"end at {end}; the file has {nbytes} bytes of data"
        return HeaderError(why, before or None, "data_offsets")
    return None


def _wrong(entry: Any, theirs: str) -> tuple[str, str] | None:
    """The field of a tensor that is wrong, and how; None if it seems to be right."""
    if not isinstance(entry, dict):
        return "", f"is {shown(entry)}, not an object"
    for field in _FIELDS:
        if field not in entry:
            return field, "is missing"
    dtype, shape, offsets = (entry[field] for field in _FIELDS)
    # An older library knows fewer types.
    if not isinstance(dtype, str) or dtype not in _BITS or f"variant `{dtype}`" in theirs:
        return "dtype", f"is {shown(dtype)}, which is no element type of the format"
    if not isinstance(shape, list) or not all(map(_is_count, shape)):
        return "shape", f"is {shown(shape)}, not a list of lengths"
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        return "data_offsets", f"are {shown(offsets)}, not two positions"
    if len(shape) > 64 and 0 not in shape:
        # Not multiplied: that may take long.
        return None
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        need = f"{shown(shape)} of {dtype} need {bits / 8 if bits % 8 else bits // 8} bytes"
        return "data_offsets", f"are {offsets}; {need}"
    return None


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**64


def shown(value: object, *, quoted: bool = True) -> str:
    """A value from a file, in a message: on one line, and short."""
    text = repr(value) if quoted else " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _read(descriptor: int, length: int, offset: int) -> bytes:
    found = b""
    while len(found) < length:
        piece = os.pread(descriptor, length - len(found), offset + len(found))
        if not piece:
            break
        found += piece
    return found


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
