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
from initcore.dtypes import DTYPES
from initcore.file import MAX_HEADER_BYTES
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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no index of safetensors files: {error!r}") from error
    read = {file: _read(file) for file in sorted(set(files.values()))}
    for name, file in files.items():
        if name not in read[file]:
            raise ValueError(f"{index} places {name!r} in {file.name}, which does not have it")
    return {name: read[file][name] for name, file in files.items()}


def _read(path: Path) -> dict[str, Stored]:
    from safetensors import SafetensorError, safe_open

    with open(path, "rb") as file:
        try:
            # The library checks the header and the offsets.
            with safe_open(os.fspath(path), framework="numpy"):
                pass
        except SafetensorError as error:
            _refuse_unknown_types(path)
            raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = 8 + length
    return {
        name: Stored(
            path,
            form["dtype"],
            tuple(form["shape"]),
            data + form["data_offsets"][0],
            data + form["data_offsets"][1],
        )
        for name, form in header.items()
    }


def _refuse_unknown_types(path: Path) -> None:
    """Names a tensor whose element type an older safetensors library may not know.

    Raises:
        PlanError: if there is one.
    """
    with open(path, "rb") as file:
        try:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, MAX_HEADER_BYTES)))
            types = {name: form["dtype"] for name, form in header.items() if name[:2] != "__"}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
    for name, dtype in types.items():
        if dtype not in DTYPES:
            version = metadata.version("safetensors")
            message = (
                f"of {path} is {dtype!r}, which safetensors {version} does not read, and which no "
                "plan has"
            )
            raise PlanError([Violation(name, "dtype", message)])
