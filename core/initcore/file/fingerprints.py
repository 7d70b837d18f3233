"""Fingerprints: 128 bits of a tensor, a sum over its elements, so that parts add up.

docs/fingerprint-v1.md defines them. Each rank fingerprints its own part of a tensor; the sum over
all parts is the fingerprint of the whole, for every partition.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from initcore.backends import backend_name, fastest_on_cpu, load, philox
from initcore.dtypes import DTYPES, canonical_name
from initcore.file.virtual_file import VirtualFile
from initcore.generate import Region
from initcore.stream import Runs

_PURPOSE = b"initserve.v1/fingerprint\0"
_MODULUS = 1 << 64

# Elements that the reference mixes at a time: their words stay in the cache.
_BLOCK = 1 << 14

# Elements that are copied at a time, from arrays that are not contiguous or aligned.
_COPIED = 1 << 20

Mix: TypeAlias = Callable[[Runs, NDArray[Any], tuple[int, int]], tuple[int, int]]
"""Positions, the elements' bits as unsigned integers, key -> the two sums modulo 2^64."""


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of a tensor or of a part of one.

    Fingerprints of parts that do not overlap add up with `+`; `n * f` is that of n copies.
    The text, `str(f)`, is 32 hexadecimal digits: those of `bytes(f)`.

    Attributes:
        lanes: two sums modulo 2^64.
    """

    lanes: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", tuple(int(lane) % _MODULUS for lane in self.lanes))

    def __add__(self, other: Fingerprint) -> Fingerprint:
        return Fingerprint((self.lanes[0] + other.lanes[0], self.lanes[1] + other.lanes[1]))

    def __rmul__(self, copies: int) -> Fingerprint:
        return Fingerprint((copies * self.lanes[0], copies * self.lanes[1]))

    def __bytes__(self) -> bytes:
        return b"".join(lane.to_bytes(8, "little") for lane in self.lanes)

    def __str__(self) -> str:
        return bytes(self).hex()

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """The fingerprint whose `bytes` these are.

        Raises:
            ValueError: if they are not 16.
        """
        if len(data) != 16:
            raise ValueError(f"a fingerprint has 16 bytes, not {len(data)}")
        return cls((int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")))

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """The fingerprint whose text this is.

        Raises:
            ValueError: if it is not 32 hexadecimal digits.
        """
        try:
            return cls.from_bytes(bytes.fromhex(text))
        except ValueError:
            raise ValueError(
                f"{text!r} is not a fingerprint, which has 32 hexadecimal digits"
            ) from None


class Fingerprinter:
    """Fingerprints one part of a tensor in stretches; the caller supplies the bits.

    Args:
        name: the tensor's name.
        shape: shape of the whole tensor.
        bounds: (start, stop) of the part in each dimension; None is the whole tensor.
        mix: a function of `mixer`; None chooses by the part's size.
    """

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        bounds: Sequence[tuple[int, int]] | None = None,
        mix: Mix | None = None,
    ) -> None:
        if bounds is None:
            bounds = [(0, size) for size in shape]
        self._region = Region(shape, bounds)
        self._key = key(name)
        self._mix = mix or mixer()

    def stretch(self, first: int, bits: NDArray[Any]) -> Fingerprint:
        """The fingerprint of some consecutive elements of the part.

        Args:
            first: row-major position in the part of the first of them.
            bits: their bits, a contiguous, aligned 1-D array of little-endian integers or
                floats of 1, 2, 4 or 8 bytes.
        """
        unsigned = bits.view(f"u{bits.itemsize}")
        total = Fingerprint()
        for offset, runs in self._region.runs(first, len(unsigned)):
            part = unsigned[offset : offset + runs.count]
            total += Fingerprint(self._mix(runs, part, self._key))
        return total


def fingerprint(
    name: str,
    array: Any,
    *,
    shape: Sequence[int] | None = None,
    bounds: Sequence[tuple[int, int]] | None = None,
) -> Fingerprint:
    """The fingerprint of an array: a tensor, or a rectangular part of one.

    Args:
        name: the tensor's name, which is part of the fingerprint.
        array: a NumPy array, or an object that NumPy can view as one, of an element type that
            plans have. Any strides; it is read in blocks.
        shape: shape of the whole tensor; None means that the array is the whole tensor.
        bounds: (start, stop) of the array in each dimension of the whole tensor.

    Raises:
        TypeError: for an element type that no plan has.
        ValueError: if bounds do not fit the array or the shape.

    Example:
        >>> import numpy as np
        >>> from initcore import fingerprint
        >>> rows = np.arange(6, dtype=np.float32).reshape(3, 2)
        >>> whole = fingerprint("w", rows)
        >>> part = fingerprint("w", rows[:2], shape=(3, 2), bounds=((0, 2), (0, 2)))
        >>> rest = fingerprint("w", rows[2:], shape=(3, 2), bounds=((2, 3), (0, 2)))
        >>> part + rest == whole
        True
    """
    values = np.asarray(array)
    # By name: the byte order, as in ">f4", does not matter here.
    if canonical_name(values.dtype.name) not in DTYPES:
        raise TypeError(f"{name!r} has elements of type {values.dtype}, which no plan has")
    shape = values.shape if shape is None else tuple(shape)
    bounds = [(0, size) for size in shape] if bounds is None else list(bounds)
    _check_bounds(name, values.shape, shape, bounds)
    maker = Fingerprinter(name, shape, bounds)
    total = Fingerprint()
    first = 0
    for block in blocks(values):
        total += maker.stretch(first, block)
        first += len(block)
    return total


def blocks(values: NDArray[Any], elements: int = _COPIED) -> Iterator[NDArray[Any]]:
    """An array's elements in row-major order, as 1-D arrays of bits.

    Args:
        values: any array of an element type that plans have.
        elements: at most so many at a time.

    Yields:
        Contiguous, aligned, little-endian unsigned integers; views where the array's memory
        allows it.
    """
    swapped = values.dtype.byteorder == ">" or (
        values.dtype.byteorder == "=" and sys.byteorder == "big"
    )
    kind = f"u{values.itemsize}"
    flat = values.reshape(-1) if values.flags.c_contiguous else values.flat
    for first in range(0, values.size, elements):
        block: NDArray[Any] = np.require(flat[first : first + elements], requirements=["C", "A"])
        yield block.view(kind).byteswap() if swapped else block.view(kind)


def fingerprints_between(
    file: VirtualFile,
    begin: int,
    end: int,
    data: memoryview | None = None,
    mix: Mix | None = None,
) -> dict[str, Fingerprint]:
    """Fingerprints of the elements between two bytes of a plan's file, by tensor.

    Args:
        file: the file.
        begin: first byte.
        end: the byte past the last. Like begin a multiple of 8, or an end of the data.
        data: these bytes; None computes them.
        mix: a function of `mixer`.

    Returns:
        For each tensor with elements there, the fingerprint of these elements.
    """
    source = file.read(begin, end - begin) if data is None else data
    values = np.frombuffer(source, dtype=np.uint8)
    found = {}
    for entry, first, count in file.elements(begin, end - begin):
        tensor = entry.tensor
        size = tensor.dtype.itemsize
        at = entry.begin + first * size - begin
        bits = np.require(values[at : at + count * size], requirements=["A"]).view(f"u{size}")
        maker = Fingerprinter(tensor.name, tensor.shape, tensor.bounds, mix)
        found[tensor.name] = maker.stretch(first, bits)
    return found


def key(name: str) -> tuple[int, int]:
    """The key of a tensor's fingerprint: the generator's, from the tensor's name."""
    digest = hashlib.sha256(_PURPOSE + name.encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def mixer(backend: str | None = None) -> Mix:
    """The function that mixes and sums on the CPU; all of them give the same bits.

    Args:
        backend: the backend that makes the values: "numpy" and "native" mix too, beside all
            others the fastest on the CPU does. None means INITSERVE_BACKEND, else "auto".
    """
    name = backend_name(backend)
    mixing = load(name) if name in ("numpy", "native") else fastest_on_cpu()
    if mixing.name == "native":
        from initcore.backends.native import mix

        return mix
    return mix_reference


def mix_reference(runs: Runs, bits: NDArray[Any], key: tuple[int, int]) -> tuple[int, int]:
    """The sums of docs/fingerprint-v1.md, in NumPy."""
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    total = Fingerprint()
    for first in range(0, runs.count, _BLOCK):
        part = bits[first : first + _BLOCK].astype(np.uint64)
        index = runs.positions(first, len(part))
        counter = np.stack([index & low, index >> shift, part & low, part >> shift])
        w0, w1, w2, w3 = philox(counter, key)
        total += Fingerprint((np.add.reduce(w0 | (w1 << shift)), np.add.reduce(w2 | (w3 << shift))))
    return total.lanes


def _check_bounds(
    name: str, held: Sequence[int], shape: Sequence[int], bounds: Sequence[tuple[int, int]]
) -> None:
    if (
        len(bounds) != len(shape)
        or any(not 0 <= a <= b <= size for (a, b), size in zip(bounds, shape, strict=True))
        or [b - a for a, b in bounds] != list(held)
    ):
        raise ValueError(
            f"{name!r} has the shape {list(held)}, which does not fit bounds "
            f"{[list(pair) for pair in bounds]} of a tensor of shape {list(shape)}"
        )
