"""The layout of a plan's safetensors file, which is fixed before any value is computed.

The header lists the tensors in the plan's order. The data follows the same order, but wider
element types come first, as in files that the safetensors library writes. The format allows no
gaps; with this order every tensor starts at a multiple of its element size, which torch needs to
map it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from initcore._version import STREAM_VERSION
from initcore.errors import PlanError, Violation
from initcore.file.digest import encode_text, plan_digest
from initcore.generate import MAX_HEADER_BYTES
from initcore.machine import collection_paused
from initcore.plan import Plan
from initcore.resolve import MAX_MATRIX_ELEMENTS, Resolved, resolve

MAX_FILE_BYTES = 2**63 - 1

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True)
class Entry:
    """A tensor and its place in the file: bytes begin .. end - 1."""

    tensor: Resolved
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.end - self.begin


@dataclass(frozen=True)
class Layout:
    """The places of header and tensors in the file of a plan.

    Attributes:
        plan: the plan.
        header: the file's first bytes: the header's length and its JSON, padded with spaces
            so that the data starts at a multiple of 8.
        entries: the tensors in the plan's order.
        data_order: the same entries in the order of their data.
        size: bytes of the whole file.
        digest: the plan's digest, 64 hexadecimal digits.
        warnings: unusual but allowed settings of the plan, as sentences.
    """

    plan: Plan
    header: bytes
    entries: tuple[Entry, ...]
    data_order: tuple[Entry, ...]
    size: int
    digest: str
    warnings: tuple[str, ...]

    @property
    def data_begin(self) -> int:
        """Position of the first byte of data."""
        return len(self.header)


@collection_paused()
def layout(plan: Plan, max_matrix_elements: int = MAX_MATRIX_ELEMENTS) -> Layout:
    """Lays out the file of a plan.

    Args:
        plan: the plan.
        max_matrix_elements: the largest matrix that schemes which need one whole may have.

    Raises:
        PlanError: with all violations of the plan.
    """
    tensors = resolve(plan, max_matrix_elements)
    digest = plan_digest(plan.seed, tensors)
    sizes = [tensor.nbytes for tensor in tensors]
    widths = [tensor.dtype.itemsize for tensor in tensors]
    widest_first = sorted(range(len(tensors)), key=lambda i: -widths[i])
    offsets = [0] * len(tensors)
    position = 0
    for index in widest_first:
        offsets[index] = position
        position += sizes[index]
    header = _header(plan, tensors, offsets, sizes, digest)
    begin = len(header)
    if begin + position > MAX_FILE_BYTES:
        message = f"hold {position} bytes together; at most 2^63-1 are allowed"
        raise PlanError([Violation("", "tensors", message)])
    triples = zip(tensors, offsets, sizes, strict=True)
    entries = tuple([_entry(tensor, begin + at, begin + at + size) for tensor, at, size in triples])
    return Layout(
        plan=plan,
        header=header,
        entries=entries,
        data_order=tuple(entries[i] for i in widest_first),
        size=begin + position,
        digest=digest,
        warnings=tuple(warning for tensor in tensors for warning in tensor.warnings),
    )


def _entry(tensor: Resolved, begin: int, end: int) -> Entry:
    """An entry, at half the cost of its constructor, which sets each field of a frozen value."""
    entry = object.__new__(Entry)
    object.__setattr__(entry, "__dict__", {"tensor": tensor, "begin": begin, "end": end})
    return entry


def _header(
    plan: Plan,
    tensors: Sequence[Resolved],
    offsets: Sequence[int],
    sizes: Sequence[int],
    digest: str,
) -> bytes:
    metadata = {
        "initserve.plan_digest": digest,
        "initserve.stream_version": str(STREAM_VERSION),
        "initserve.seed": str(plan.seed),
    }
    lines = [f'"__metadata__":{_encode(metadata)}']
    for tensor, begin, size in zip(tensors, offsets, sizes, strict=True):
        # Formatted by hand: the json module would take most of the time of a large plan's layout.
        lines.append(
            f'{encode_text(tensor.name)}:{{"dtype":"{tensor.dtype.name}","shape":'
            f'{_sizes(tensor.shard_shape)},"data_offsets":[{begin},{begin + size}]}}'
        )
    return framed(f"{{{','.join(lines)}}}")


def framed(form: str) -> bytes:
    """The first bytes of a file: the length of its header, and the header, a multiple of eight.

    Args:
        form: the header's JSON.

    Raises:
        PlanError: if it is longer than readers of such files take.
    """
    text = form.encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        message = f"need a header of {len(text)} bytes; at most {MAX_HEADER_BYTES} are allowed"
        raise PlanError([Violation("", "tensors", message)])
    return len(text).to_bytes(8, "little") + text


@lru_cache(maxsize=1024)
def _sizes(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
