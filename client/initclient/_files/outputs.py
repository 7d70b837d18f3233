"""The files that a fetch writes, and the names of their partial files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from initcore import Layout
from initcore.file import BLOCK, Progress

PART = ".initserve.part"
SHARD_PART = ".initserve.shard.part"
JOURNAL = ".initserve.journal"

# File systems limit names to 255 bytes.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Output:
    """A file to write: a layout's data behind a header.

    Attributes:
        final: its final path.
        layout: the plan's file.
        header: its first bytes, instead of the layout's header.
    """

    final: Path
    layout: Layout
    header: bytes

    @property
    def shift(self) -> int:
        """Offset of the data here minus its offset in the layout's file."""
        return len(self.header) - self.layout.data_begin

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.layout.size + self.shift

    def block(self, index: int) -> tuple[int, int]:
        """The data of a block, as (begin, end) in the layout's file."""
        begin = max(index * BLOCK, self.layout.data_begin)
        return begin, max(begin, min((index + 1) * BLOCK, self.layout.size))

    def span(self, index: int) -> int:
        """Bytes of the layout's file in a block, header included."""
        return min((index + 1) * BLOCK, self.layout.size) - index * BLOCK

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.layout.size // BLOCK)


@dataclass(frozen=True)
class Outputs:
    """Files that are written together and appear together.

    Attributes:
        path: the path that the caller gave.
        files: the files, all in one folder.
        journal: the path of their journal.
        digest: the plan's digest.
        index: path and content of the index, which is written after all other files; if any.
        ending: the ending of the names of partial files. That of files with a common journal is
            another one, so that a fetch of one of them alone does not meet them.
    """

    path: Path
    files: tuple[Output, ...]
    journal: Path
    digest: str
    index: tuple[Path, bytes] | None = None
    ending: str = PART

    def part_name(self, number: int) -> str:
        """The name of a file's partial file."""
        return sibling_name(self.files[number].final.name, self.ending)

    @property
    def size(self) -> int:
        """Size of the layouts' files in bytes."""
        return sum(one.layout.size for one in self.files)

    def progress(self, number: int, progress: Progress | None) -> Progress | None:
        """A callback for one file's progress, which reports the progress of all files."""
        if progress is None:
            return None
        before = sum(one.layout.size for one in self.files[:number])
        return lambda done, _: progress(before + done, self.size)


def one_file(final: Path, path: Path, layout: Layout) -> Outputs:
    """The plan's own file at `final`, for a caller who gave `path`.

    Raises:
        ValueError: if it has the name of a partial file.
    """
    if final.name.lower().endswith((PART, SHARD_PART, JOURNAL)):
        raise ValueError(
            f"the path is {path}; names that end in {PART}, {SHARD_PART} or {JOURNAL} are those "
            "of partial files, so give the file another name"
        )
    output = Output(final, layout, layout.header)
    return Outputs(
        path, (output,), final.with_name(sibling_name(final.name, JOURNAL)), layout.digest
    )


def sibling_name(name: str, ending: str) -> str:
    """The name of a sibling file of `name`. Different names have different siblings."""
    if len(os.fsencode(name)) > _LONGEST_NAME:
        # Longer than any name that is kept as it is.
        name = hashlib.sha256(os.fsencode(name)).hexdigest().ljust(_LONGEST_NAME + 1, "_")
    return name + ending
