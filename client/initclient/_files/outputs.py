"""The files that a fetch writes, and what they are called until they are whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from initcore import Layout
from initcore.file import BLOCK, Progress

PART = ".initserve.part"
JOURNAL = ".initserve.journal"

# File systems end names at 255 bytes.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Output:
    """A file to write: a layout's data behind a header.

    Attributes:
        final: its name in the end.
        layout: the plan's file.
        header: its first bytes, in place of the layout's own.
    """

    final: Path
    layout: Layout
    header: bytes

    @property
    def shift(self) -> int:
        """How far from its place in the layout's file each byte of data lies."""
        return len(self.header) - self.layout.data_begin

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.layout.size + self.shift

    def block(self, index: int) -> tuple[int, int]:
        """The data of a block: its first position in the layout's file, and the one past it."""
        begin = max(index * BLOCK, self.layout.data_begin)
        return begin, max(begin, min((index + 1) * BLOCK, self.layout.size))

    def span(self, index: int) -> int:
        """Bytes of the layout's file in a block, those of its header included."""
        return min((index + 1) * BLOCK, self.layout.size) - index * BLOCK

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return -(-self.layout.size // BLOCK)


@dataclass(frozen=True)
class Outputs:
    """Files that are written together and appear together.

    Attributes:
        path: what the caller calls them.
        files: the files, all in one folder.
        journal: where the journal of all of them is.
        digest: the plan's.
        index: a file that is written when all others are there, with its content; if any.
    """

    path: Path
    files: tuple[Output, ...]
    journal: Path
    digest: str
    index: tuple[Path, bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes of the layouts' files."""
        return sum(one.layout.size for one in self.files)

    def progress(self, number: int, progress: Progress | None) -> Progress | None:
        """What one file's progress is told to, so that `progress` hears of all files."""
        if progress is None:
            return None
        before = sum(one.layout.size for one in self.files[:number])
        return lambda done, _: progress(before + done, self.size)


def one_file(final: Path, path: Path, layout: Layout) -> Outputs:
    """The plan's own file, which the caller calls `path`."""
    output = Output(final, layout, layout.header)
    return Outputs(path, (output,), final.with_name(passing(final.name, JOURNAL)), layout.digest)


def passing(name: str, ending: str) -> str:
    """What a file is called that is beside the one of this name for a while."""
    if len(name.encode(errors="surrogateescape")) > _LONGEST_NAME:
        name = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()
    return name + ending
