"""Reads tensors of safetensors files, one file or several with an index, block by block."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from initcore import PlanError, Violation
from initcore.generate import HeaderError, read_header
from numpy.typing import NDArray

_INDEX = ".safetensors.index.json"
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        path: the file.
        dtype: the format's name of its element type.
        shape: its shape.
        begin: its first byte in the file.
        end: the byte past its last.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The elements' bits in order, a few MiB at a time.

        Raises:
            OSError: if the file cannot be read, or has become shorter.
        """
        count = math.prod(self.shape)
        if not count:
            return
        kind = np.dtype(f"<u{(self.end - self.begin) // count}")
        with open(self.path, "rb") as file:
            file.seek(self.begin)
            for first in range(self.begin, self.end, _BLOCK_BYTES):
                wanted = min(_BLOCK_BYTES, self.end - first) // kind.itemsize
                block = np.fromfile(file, dtype=kind, count=wanted)
                if len(block) != wanted:
                    raise OSError(f"{self.path} ends early")
                yield block.astype(kind.newbyteorder("="), copy=False)


def stored_tensors(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """The tensors of a checkpoint, by name.

    Args:
        path: a safetensors file; a Hugging Face index (`*.safetensors.index.json`) beside its
            files; or a folder that holds one index, or safetensors files of which no two have
            a tensor in common.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a file is malformed, or two have the same tensor.
    """
    where = Path(path)
    if where.is_dir():
        indexes = sorted(where.glob(f"*{_INDEX}"))
        if len(indexes) > 1:
            names = ", ".join(index.name for index in indexes)
            raise ValueError(f"{where} holds several indexes, {names}; give the path of one")
        if indexes:
            return _indexed(indexes[0])
        files = sorted(where.glob("*.safetensors"))
        if not files:
            raise ValueError(f"{where} holds no safetensors file")
        return _joined(files)
    return _indexed(where) if where.name.endswith(_INDEX) else _read(where)


def metadata_of(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a checkpoint that `stored_tensors` reads: of its first file that has any."""
    for file in sorted({tensor.path for tensor in stored_tensors(path).values()}):
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            found = json.loads(opened.read(length)).get("__metadata__")
        if found:
            return {str(key): str(value) for key, value in found.items()}
    return {}


def _joined(files: list[Path]) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for file in files:
        for name, tensor in _read(file).items():
            other = found.setdefault(name, tensor)
            if other is not tensor:
                raise ValueError(f"{name!r} is in {other.path} and in {file}; give one of them")
    return found


def _indexed(index: Path) -> dict[str, Stored]:
    try:
        places = json.loads(index.read_text("utf-8"))["weight_map"]
        files = {str(name): index.parent / file for name, file in places.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{index} is not an index of safetensors files: {error!r}") from error
    read = {file: _read(file) for file in sorted(set(files.values()))}
    for name, file in files.items():
        if name not in read[file]:
            raise ValueError(f"{index} places {name!r} in {file.name}, which does not have it")
    return {name: read[file][name] for name, file in files.items()}


def _read(path: Path) -> dict[str, Stored]:
    with open(path, "rb") as file:
        try:
            found = read_header(file.fileno())
        except HeaderError as error:
            if error.tensor is not None and error.field == "dtype":
                # Another release of the library may know it; ours decides.
                message = f"of {path}: {error}; safetensors {metadata.version('safetensors')}"
                raise PlanError([Violation(error.tensor, "dtype", message)]) from error
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    return {
        name: Stored(path, one.dtype, one.shape, one.begin, one.end) for name, one in found.items()
    }
