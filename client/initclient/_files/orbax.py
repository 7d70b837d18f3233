"""Folders of Orbax: names, shapes, and elements, some MiB of tensors at a time.

Names are those of `initclient.jax`: the keys of a leaf's path, joined by slashes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from initcore import MissingPackageError
from initcore.dtypes import canonical_name
from initcore.file import blocks
from numpy.typing import NDArray

_METADATA = "_METADATA"

_PLAN = "initserve.plan"
"""The one leaf of a checkpoint that `initclient.jax.orbax.PlanHandler` has stored."""

# Tensors that are read in one call of Orbax, which reads the names of all tensors each time.
_GROUP_BYTES = 64 << 20


def orbax_folder(path: Path) -> Path | None:
    """The folder below `path` in which Orbax has put a tree of arrays; None if there is none.

    Args:
        path: the folder that a Checkpointer wrote, or the folder of one step of a
            CheckpointManager, whose only item is taken. A folder with safetensors files is none
            of Orbax, whatever is below it.

    Raises:
        ValueError: if the folder has several items, or several steps.
    """
    if (path / _METADATA).is_file():
        return path
    if not path.is_dir() or next(path.glob("*.safetensors*"), None) is not None:
        return None
    items = sorted(file.parent for file in path.glob(f"*/{_METADATA}"))
    if len(items) == 1:
        return items[0]
    if items:
        names = ", ".join(item.name for item in items)
        raise ValueError(f"{path} holds several items, {names}; give the path of one: {items[0]}")
    steps = sorted({file.parent.parent for file in path.glob(f"*/*/{_METADATA}")})
    if steps:
        names = ", ".join(step.name for step in steps[:8])
        raise ValueError(f"{path} holds checkpoints of steps {names}; give one: {steps[0]}")
    return None


@dataclass(frozen=True)
class StoredArray:
    """An array of such a folder.

    Attributes:
        dtype: the format's name of its element type.
        shape: its whole shape.
    """

    dtype: str
    shape: tuple[int, ...]
    _path: tuple[str | int, ...]
    _reader: _Reader

    def blocks(self) -> Iterator[NDArray[Any]]:
        """The elements' bits in order, a few MiB at a time.

        Raises:
            ValueError: if the array cannot be read.
        """
        yield from blocks(self._reader.read(self._path))


def orbax_tensors(folder: Path) -> dict[str, StoredArray]:
    """The arrays of a folder of Orbax, by name; numbers and text of Python are left out.

    Raises:
        MissingPackageError: if Orbax is not installed.
        ValueError: if it is no whole checkpoint of Orbax, or holds a plan.
    """
    reader = _Reader(folder)
    found = {}
    for path, (shape, dtype) in reader.described.items():
        try:
            name = canonical_name(dtype)
        except (TypeError, ValueError):
            name = dtype  # of no plan, so that the report names it
        found["/".join(map(str, path))] = StoredArray(name, shape, path, reader)
    if set(found) == {_PLAN}:
        raise ValueError(
            f"{folder} holds a plan, as initclient.jax.orbax.PlanHandler stores it, and no values; "
            "restore it, and verify what was restored with initclient.jax.verify"
        )
    return found


class _Reader:
    """Reads arrays of a folder, several in one call, and keeps them until they are taken."""

    def __init__(self, folder: Path) -> None:
        try:
            import orbax.checkpoint as ocp
            from etils import epath
        except ModuleNotFoundError as error:
            purpose = f"verify of {folder}, a folder of Orbax,"
            raise MissingPackageError("Orbax", "orbax", purpose) from error
        self._ocp = ocp
        self._folder = epath.Path(folder.absolute())  # Orbax takes no others
        self._handler = ocp.PyTreeCheckpointHandler()
        try:
            self._tree = self._handler.metadata(self._folder).tree
        except Exception as error:
            # Damaged metadata raise errors of any kind.
            raise ValueError(f"{folder} is not a checkpoint of Orbax: {error}") from error
        self.described = {
            path: (tuple(leaf.shape), str(np.dtype(leaf.dtype)))
            for path, leaf in _leaves(self._tree)
            if isinstance(leaf, ocp.metadata.ArrayMetadata)
            and not isinstance(leaf, ocp.metadata.ScalarMetadata)
        }
        self._groups = self._grouped()
        self._held: dict[tuple[str | int, ...], NDArray[Any]] = {}

    def read(self, path: tuple[str | int, ...]) -> NDArray[Any]:
        """The array at a path."""
        if path not in self._held:
            self._held = {}  # before the next ones are read
            self._held = self._restored(self._groups[path])
        return self._held.pop(path)

    def _grouped(self) -> dict[tuple[str | int, ...], set[tuple[str | int, ...]]]:
        """The paths that are read together with each path: about 64 MiB, or one larger array."""
        sizes = {
            path: (np.dtype(dtype).itemsize, math.prod(shape) * np.dtype(dtype).itemsize)
            for path, (shape, dtype) in self.described.items()
        }
        groups = {}
        group: set[tuple[str | int, ...]] = set()
        room = 0
        # In the order in which a plan's file has them.
        for path in sorted(sizes, key=lambda path: -sizes[path][0]):
            size = sizes[path][1]
            if size > room:
                group, room = set(), _GROUP_BYTES
            group.add(path)
            room -= size
            groups[path] = group
        return groups

    def _restored(self, wanted: set[tuple[str | int, ...]]) -> dict[Any, NDArray[Any]]:
        ocp = self._ocp
        item = _mapped(self._tree, lambda path: 0 if path in wanted else ocp.PLACEHOLDER)
        how = _mapped(self._tree, lambda path: ocp.RestoreArgs(restore_type=np.ndarray))
        arguments = ocp.args.PyTreeRestore(item=item, restore_args=how)
        try:
            tree = self._handler.restore(self._folder, args=arguments)
        except Exception as error:
            # TensorStore has errors of its own for files that are missing or damaged.
            raise ValueError(f"{self._folder} cannot be read: {error}") from error
        return {path: np.asarray(leaf) for path, leaf in _leaves(tree) if path in wanted}


def _leaves(
    tree: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The leaves of nested dicts, lists and tuples, with their paths."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(tree, list | tuple):
        for number, value in enumerate(tree):
            yield from _leaves(value, (*path, number))
    else:
        yield path, tree


def _mapped(tree: Any, make: Any, path: tuple[str | int, ...] = ()) -> Any:
    """The tree with other leaves, each made from its path; None, which is no leaf, stays."""
    if isinstance(tree, dict):
        return {key: _mapped(value, make, (*path, key)) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_mapped(value, make, (*path, number)) for number, value in enumerate(tree)]
    return None if tree is None else make(path)
