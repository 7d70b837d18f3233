"""The files of a mounted folder: weights that are made when they are read, and files beside."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from initcore import Layout, Plan
from initcore.file import BLOCK

from initclient._commands._mount.blocks import Blocks
from initclient._files import Output, Scattered, sharded
from initclient._machine import here
from initclient._source import Request

# One call brings more from a server than this process makes at a time.
_FROM_SERVER = 4 * BLOCK

# Blocks that are made before a sequential reader asks for them, at most: one for each CPU.
_MOST_AHEAD = 8


class File(Protocol):
    """A file of the folder; any thread may read any range of it."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range, fewer at the end of the file."""


@dataclass(frozen=True)
class Tree:
    """A folder.

    Attributes:
        files: its files, by their paths below it, such as "config.json".
        folders: the folders in it, by their paths.
    """

    files: Mapping[str, File]
    folders: frozenset[str] = field(default=frozenset())

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def names(self, folder: str) -> list[str]:
        """The names in a folder; "" is the whole one."""
        prefix = f"{folder}/" if folder else ""
        paths = [*self.files, *self.folders]
        rest = [path.removeprefix(prefix) for path in paths if path.startswith(prefix)]
        return sorted(name for name in rest if name and "/" not in name)


def tree_of(
    request: Request,
    mountpoint: Path,
    *,
    shard_size: int = sys.maxsize,
    cache: int,
    beside: Mapping[str, File],
) -> Tree:
    """The folder of a plan in the Hugging Face layout.

    Args:
        request: the plan and the source of its values.
        mountpoint: where the folder will be.
        shard_size: most bytes of tensors in one file.
        cache: bytes of weights that stay in memory.
        beside: other files, by their paths.

    Raises:
        ValueError: if one of the other files has the path of a file of weights.
        OSError: if the mount point is no folder, or holds other weights.
    """

    def lay_out_part(part: Plan) -> Layout:
        return request.of_plan(part).layout

    outputs = sharded(mountpoint, request.layout, shard_size, lay_out_part)
    block = BLOCK if request.service is None else _FROM_SERVER
    blocks = Blocks(cache // block, ahead=min(max(here().cpus(), 2), _MOST_AHEAD))
    files: dict[str, File] = {}
    for number, output in enumerate(outputs.files):
        make = _maker(request.of(output.layout))
        files[output.final.name] = _Weights(output, number, block, blocks, make)
    if outputs.index is not None:
        index, content = outputs.index
        files[index.name] = Held(content)
    for path, file in beside.items():
        if path in files:
            raise ValueError(
                f"the folder of the plan holds {path}, and so does the mounted one; remove it, or "
                "give the plan file alone"
            )
        files[path] = file
    parents = {str(parent) for path in files for parent in Path(path).parents}
    return Tree(files, frozenset(parents - {"."}))


Range = Callable[[int, int], memoryview]
"""Makes the bytes of a range of a layout's file."""


def _maker(request: Request) -> Range:
    if request.service is None:
        file = request.open()
        return lambda begin, end: file.read(begin, end - begin)

    def fetch(begin: int, end: int) -> memoryview:
        # Importing it imports gRPC.
        from initclient._transport import blocking

        memory = np.empty(end - begin, dtype=np.uint8)
        blocking.download(request, Scattered([(begin, memory)]), None, [(begin, end)])
        return memory.data

    return fetch


@dataclass(frozen=True)
class Held:
    """A file whose content is in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.content)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range."""
        return self.content[offset : offset + length]


@dataclass(frozen=True)
class _Weights:
    """A file of weights: a header of its own before the data of a layout's file."""

    output: Output
    number: int
    block: int
    blocks: Blocks
    make: Range

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.output.size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range; computed or fetched with the blocks around it."""
        end = min(offset + length, self.size)
        parts: list[bytes | memoryview] = [self.output.header[offset:end]]
        position = max(offset, len(self.output.header)) - self.output.shift
        stop = end - self.output.shift
        while position < stop:
            index = position // self.block
            begin = self._begin(index)
            last = min(stop, (index + 1) * self.block)
            block = self.blocks.read(self.number, index, self._count, self._make)
            parts.append(block[position - begin : last - begin])
            position = last
        return b"".join(parts)

    @property
    def _count(self) -> int:
        return -(-self.output.layout.size // self.block)

    def _begin(self, index: int) -> int:
        """Where a block begins in the layout's file, without its header."""
        return max(index * self.block, self.output.layout.data_begin)

    def _make(self, index: int) -> memoryview:
        end = min((index + 1) * self.block, self.output.layout.size)
        return self.make(self._begin(index), max(end, self._begin(index)))
