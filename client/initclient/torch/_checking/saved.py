"""Folders of torch.distributed.checkpoint: names, shapes, and elements, one tensor at a time.

Imported late, since `torch.distributed.checkpoint` takes seconds to import.
"""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import EnumMeta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from initcore.dtypes import canonical_name
from initcore.file import blocks
from numpy.typing import NDArray
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from initclient.torch._model import host_bytes

METADATA = ".metadata"
"""The file that makes a folder such a checkpoint."""

# What metadata are made of, beside classes of torch.distributed.checkpoint.
_KNOWN = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
}
_PATHS = ("pathlib", "pathlib._local")
_OWN = "torch.distributed.checkpoint."


@dataclass(frozen=True)
class Saved:
    """A tensor of such a checkpoint.

    Attributes:
        dtype: the format's name of its element type.
        shape: its whole shape.
        load: reads its elements.
    """

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], torch.Tensor]

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The elements' bits in order, a few MiB at a time; the tensor is in memory meanwhile."""
        tensor = self.load()
        memory = host_bytes(tensor)
        assert memory is not None
        yield from blocks(memory.view(np.dtype(f"u{tensor.element_size()}")))


def saved_tensors(folder: Path) -> dict[str, Saved]:
    """The tensors of a checkpoint, by the names of its state dict; other objects are left out.

    No code of the folder runs: of the pickled metadata only torch's own classes are taken.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if it is no whole checkpoint of torch.distributed.checkpoint.
    """
    metadata = _metadata(folder)
    reader = _Reader(folder, metadata)
    described: Mapping[str, Any] = metadata.state_dict_metadata
    found = {}
    for name, one in described.items():
        if not isinstance(one, TensorStorageMetadata):
            continue
        shape, dtype = tuple(one.size), one.properties.dtype
        stored = sum(math.prod(chunk.sizes) for chunk in one.chunks)
        if stored < math.prod(shape):
            raise ValueError(
                f"{folder / METADATA} has {stored:,} of the {math.prod(shape):,} elements of "
                f"{name!r}; the checkpoint is not whole"
            )
        found[name] = Saved(canonical_name(dtype), shape, _loader(reader, name, shape, dtype))
    return found


def _loader(
    reader: _Reader, name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        tensor = torch.empty(shape, dtype=dtype)
        try:
            with warnings.catch_warnings():
                # As it is meant: this process reads alone.
                warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
                load({name: tensor}, storage_reader=reader, no_dist=True)
        except CheckpointException as error:
            causes = [failure[0] for failure in error.failures.values()]
            raise next(
                (c for c in causes if isinstance(c, OSError)), ValueError(str(error))
            ) from error
        return tensor

    return read


class _Reader(FileSystemReader):
    """Reads the files of a checkpoint whose metadata are known."""

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(folder)
        self._metadata = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The metadata, without unpickling them."""
        return self._metadata


class _Unpickler(pickle.Unpickler):
    """Unpickles metadata, and refuses every other class: a pickle may run any code."""

    def find_class(self, module: str, name: str) -> Any:
        """The class of this name."""
        if (module, name) == ("builtins", "getattr"):
            return _member
        if "." not in name:
            found = super().find_class(module, name)
            own = module.startswith(_OWN) and isinstance(found, type)
            path = module in _PATHS and isinstance(found, type)
            if own or path or (module, name) in _KNOWN or isinstance(found, torch.dtype):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in there")


def _member(kind: Any, name: Any) -> Any:
    """A member of an enumeration, which Python 3.11.2, Debian's, pickles as getattr(kind, name).

    Raises:
        pickle.UnpicklingError: for attributes of anything else.
    """
    if isinstance(kind, EnumMeta) and isinstance(name, str) and name in kind.__members__:
        return kind.__members__[name]
    raise pickle.UnpicklingError(f"the attribute {name!r} of {kind!r} does not belong in there")


def _metadata(folder: Path) -> Metadata:
    path = folder / METADATA
    with open(path, "rb") as file:
        try:
            found = _Unpickler(file).load()
        except Exception as error:
            # A damaged pickle raises errors of any kind.
            raise ValueError(
                f"{path} is not metadata of torch.distributed.checkpoint: {error}"
            ) from error
    if not isinstance(found, Metadata):
        raise ValueError(f"{path} is not metadata of torch.distributed.checkpoint")
    return found
