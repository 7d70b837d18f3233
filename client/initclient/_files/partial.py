"""Partial files: written beside the final name, kept after an interrupted fetch, and resumed.

A file is written as NAME.initserve.part. Its sibling NAME.initserve.journal names the plan and
the complete blocks, each with its CRC-32C; only the process that holds the journal's lock
writes. A fetch compares the checksums before it uses a partial file, so that the order in which
a machine wrote before a power cut does not matter. No file gets its final name before every byte
of every file is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from initcore.file import BLOCK, Progress
from initcore.wire import crc32c

from initclient._files.atomic import (
    create,
    preallocate,
    replacing,
    require_space,
    sync_folder,
    temporary_name,
)
from initclient._files.journal import Journal
from initclient._files.outputs import JOURNAL, PART, Output, Outputs, sibling_name
from initclient._files.sinks import FileSink
from initclient._machine import os

# Bytes between two syncs: the most that a power cut may lose.
_SYNC_BYTES = 1 << 30

_READ_BYTES = 1 << 20


class PartialFiles:
    """Outputs while they are written; the body of its `with` writes them.

    Args:
        outputs: the files.
        resume: whether to resume partial files, and to keep them if the fetch ends early.

    Attributes:
        warnings: warnings for the caller, as sentences.

    Raises:
        OSError: if there is no space, no permission, or another process that writes them.
    """

    def __init__(self, outputs: Outputs, *, resume: bool) -> None:
        self.outputs = outputs
        self.warnings: list[str] = []
        self._resume = resume
        self._journal: Journal | None = None
        self._parts: list[Path] = []
        self._made: set[Path] = set()
        self._made_folder = False
        self._published: set[int] = set()
        self._done: list[dict[int, int]] = [{} for _ in outputs.files]

    def __enter__(self) -> PartialFiles:
        try:
            self._open()
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._leave(error)
        elif self._journal:
            self._journal.close()

    def check(self, progress: Progress | None = None) -> None:
        """Compares partial files with their checksums; blocks that differ count as missing."""
        there, damaged = 0, 0
        for number, output in enumerate(self.outputs.files):
            recorded, done = self._done[number], {}
            if not recorded:
                continue
            path = output.final if number in self._published else self._parts[number]
            with open(path, "rb") as file:
                for index, crc in sorted(recorded.items()):
                    begin, end = output.block(index)
                    if _crc_of(file.fileno(), begin + output.shift, end + output.shift) == crc:
                        done[index] = crc
                        there += output.span(index)
                        if progress:
                            progress(there, self.outputs.size)
            damaged += sum(output.span(i) for i in recorded.keys() - done.keys())
            self._done[number] = done
            if number in self._published and len(done) < output.blocks:
                # The file under the final name stays; a new one is made beside it.
                self._published.discard(number)
                self._done[number] = {}
                self._make(output, self._parts[number])
        if damaged:
            self.warnings.append(
                f"{damaged} bytes of the partial file of {self.outputs.path} do not match their "
                "checksums and are fetched again"
            )

    def missing(self, number: int) -> list[tuple[int, int]]:
        """The missing ranges of a file's layout, as (begin, end)."""
        output, found = self.outputs.files[number], []
        done = self._done[number]
        begin = None
        for index in range(output.blocks + 1):
            lacks = index < output.blocks and index not in done
            if lacks and begin is None:
                begin = index
            elif not lacks and begin is not None:
                found.append((begin * BLOCK, min(index * BLOCK, output.layout.size)))
                begin = None
        return found

    @contextmanager
    def sink(self, number: int) -> Iterator[PartialSink]:
        """Takes the missing bytes of a file while the body runs, then syncs the file to disk."""
        output, part = self.outputs.files[number], self._parts[number]
        descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            yield PartialSink(descriptor, part, output, number, self._journal, self._done[number])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def publish(self) -> None:
        """Gives all files their final names, and writes the index."""
        folder = self.outputs.journal.parent
        ready = [
            (part, output.final)
            for number, (part, output) in enumerate(
                zip(self._parts, self.outputs.files, strict=True)
            )
            if number not in self._published
        ]
        for part, _ in ready:
            _sync_file(part)
        if self.outputs.index:
            # Without an index no reader mixes new files with old ones.
            self.outputs.index[0].unlink(missing_ok=True)
            sync_folder(folder)
        for part, final in ready:
            os.replace(part, final)
        sync_folder(folder)
        if self.outputs.index:
            path, text = self.outputs.index
            with replacing(path) as file:
                file.write(text)
        if self._journal:
            self._journal.remove()
            # An interruption after this point has nothing to clean up.
            self._journal = None
        self._made.clear()

    def _open(self) -> None:
        names = [output.final.name for output in self.outputs.files]
        folder = self.outputs.journal.parent
        if not folder.exists():
            folder.mkdir()
            self._made_folder = True
        if self._resume:
            self._journal = Journal.open(self.outputs)
            if self._journal is None:
                self.warnings.append(
                    f"the file system of {self.outputs.path} has no locks: if this fetch ends "
                    "early, no partial file is kept"
                )
        if self._journal:
            self._parts = [folder / sibling_name(name, PART) for name in names]
            self._done, discarded = self._journal.begin(self._parts)
            self.warnings += discarded
        else:
            self._parts = [folder / temporary_name(name) for name in names]
        self._recognize_published()
        self._require_space()
        for number, output in enumerate(self.outputs.files):
            if number not in self._published:
                if not self._parts[number].exists():
                    self._done[number] = {}
                self._make(output, self._parts[number])

    def _recognize_published(self) -> None:
        """Finds files that had their final name when the fetch was interrupted in `publish`."""
        for number, output in enumerate(self.outputs.files):
            whole = len(self._done[number]) == output.blocks
            if not whole or self._parts[number].exists():
                continue
            with suppress(OSError), open(output.final, "rb") as file:
                same_size = os.fstat(file.fileno()).st_size == output.size
                if same_size and file.read(len(output.header)) == output.header:
                    self._published.add(number)

    def _require_space(self) -> None:
        needed = 0
        for number, output in enumerate(self.outputs.files):
            if number not in self._published:
                there = 0
                with suppress(FileNotFoundError):
                    there = os.lstat(self._parts[number]).st_blocks * 512
                needed += max(0, output.size - there)
        require_space(self.outputs.journal.parent, needed, str(self.outputs.path))

    def _make(self, output: Output, part: Path) -> None:
        """Creates a partial file, or repairs the size and header of an existing one."""
        descriptor = create(part, output.final, new=self._journal is None)
        self._made.add(part)
        try:
            if os.fstat(descriptor).st_size > output.size:
                os.ftruncate(descriptor, output.size)
            preallocate(descriptor, output.size, output.final)
            FileSink(descriptor, part).write_at(0, memoryview(output.header))
        finally:
            os.close(descriptor)

    def _leave(self, error: BaseException) -> None:
        """Keeps partial files that another fetch can resume, and removes others."""
        kept = sum(
            output.span(index)
            for output, done in zip(self.outputs.files, self._done, strict=True)
            for index in done
        )
        if self._journal and kept:
            self._journal.close()
            error.add_note(self._resume_note(kept))
            return
        for part in self._made:
            with suppress(OSError):
                part.unlink()
        if self._journal:
            self._journal.remove()
        if self._made_folder:
            with suppress(OSError):
                self.outputs.journal.parent.rmdir()

    def _resume_note(self, kept: int) -> str:
        first, *others = self._parts
        where = f"{first} and {len(others)} more files" if others else str(first)
        return (
            f"{kept} of {self.outputs.size} bytes are kept in {where}. The same fetch resumes "
            f"there, from any server or in this process; to give it up, remove the files that "
            f"end in {PART} and {JOURNAL}"
        )


class PartialSink(FileSink):
    """A partial file that is being written; records complete blocks in the journal.

    The bytes of a block have to come in order; blocks may come in any order.
    """

    def __init__(
        self,
        descriptor: int,
        path: Path,
        output: Output,
        number: int,
        journal: Journal | None,
        done: dict[int, int],
    ) -> None:
        super().__init__(descriptor, path, output.shift)
        self._output = output
        self._number = number
        self._journal = journal
        self._done = done
        # By number of an incomplete block: position of its next byte, and the checksum so far.
        self._begun: dict[int, tuple[int, int]] = {}
        self._unsynced = 0

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Writes bytes to their place, except the header, which is there already.

        Raises:
            OSError: if they cannot be written.
        """
        end = offset + len(data)
        header = min(max(0, self._output.layout.data_begin - offset), len(data))
        super().write_at(offset + header, data[header:])
        for index in range(offset // BLOCK, -(-end // BLOCK)):
            low, high = max(offset, index * BLOCK), min(end, (index + 1) * BLOCK)
            part = data[max(low - offset, header) : max(high - offset, header)]
            self._extend(index, low, high, part)
        self._unsynced += len(data)
        if self._unsynced >= _SYNC_BYTES:
            self._unsynced = 0
            os.fsync(self._descriptor)

    def _extend(self, index: int, begin: int, end: int, data: memoryview) -> None:
        expected, crc = self._begun.pop(index, (index * BLOCK, 0))
        if begin != expected:
            return
        crc = crc32c(data, crc)
        if end < min((index + 1) * BLOCK, self._output.layout.size):
            self._begun[index] = (end, crc)
            return
        if self._journal:
            # First: a block that the journal lacks is not kept.
            self._journal.record(self._number, index, crc)
        self._done[index] = crc


def _crc_of(descriptor: int, begin: int, end: int) -> int:
    """The checksum of a range of a file, or of the bytes that exist if the file is shorter."""
    crc = 0
    while begin < end:
        data = os.pread(descriptor, min(_READ_BYTES, end - begin), begin)
        if not data:
            break
        crc = crc32c(memoryview(data), crc)
        begin += len(data)
    return crc


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
