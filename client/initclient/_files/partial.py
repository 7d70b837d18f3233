"""Partial files: written beside the final name, kept after an interrupted fetch, and resumed.

A file is written as NAME.initserve.part. Its sibling NAME.initserve.journal names the plan and
the complete blocks, each with its CRC-32C; only the process that holds the journal's lock
writes. A fetch compares the checksums before it uses a partial file, so that the order in which
a machine wrote before a power cut does not matter. No file gets its final name before every byte
of every file is on the disk, and only the files that this fetch wrote get one, also where locks
do nothing (`partial_file.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from initcore.file import BLOCK, Progress
from initcore.wire import crc32c

from initclient._files.atomic import replacing, require_space
from initclient._files.folder import Folder, stale, temporary_name
from initclient._files.journal import Journal
from initclient._files.outputs import JOURNAL, Outputs
from initclient._files.partial_file import PartialFile
from initclient._files.sinks import FileSink
from initclient._machine import os

# Bytes between two syncs: the most that a power cut may lose.
_SYNC_BYTES = 1 << 30

# More files than these are closed between uses, since a process may have few open.
_MOST_OPEN = 128


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
        self._folder: Folder | None = None
        self._journal: Journal | None = None
        # By number of the output; those with their final names were found there.
        self._files: list[PartialFile] = []
        self._done: list[dict[int, int]] = [{} for _ in outputs.files]
        self._damaged = 0
        self._made_folder = False
        self._checked = False
        self._over = False

    def __enter__(self) -> PartialFiles:
        try:
            self._open()
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def check(self, progress: Progress | None = None) -> None:
        """Compares partial files with their checksums; blocks that differ count as missing."""
        there = 0

        def agrees(nbytes: int) -> None:
            nonlocal there
            there += nbytes
            if progress:
                progress(there, self.outputs.size)

        for number, output in enumerate(self.outputs.files):
            recorded = self._done[number]
            if not recorded:
                continue
            done = self._files[number].agreeing(recorded, agrees)
            self._damaged += sum(output.span(i) for i in recorded.keys() - done.keys())
            self._done[number] = done
            if self._files[number].published and len(done) < output.blocks:
                # The file under the final name stays; a new one is made beside it.
                self._files[number].close()
                self._done[number] = {}
                self._files[number] = self._new(number)
                self._files[number].create()
            self._rest(number)
        self._checked = True
        if self._damaged:
            self.warnings.append(
                f"{self._damaged} bytes of the partial file of {self.outputs.path} do not match "
                "their checksums and are fetched again"
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
        file = self._files[number]
        yield PartialSink(file, number, self._journal, self._done[number])
        os.fsync(file.descriptor())
        self._rest(number)

    def read(self, number: int, offset: int, count: int) -> bytes:
        """Bytes of a file's layout, from an offset on.

        Raises:
            OSError: ESTALE, if the file was cut.
        """
        output = self.outputs.files[number]
        found = os.pread(self._files[number].descriptor(), count, offset + output.shift)
        if len(found) < count:
            raise stale(output.final)
        self._rest(number)
        return found

    def discard(self) -> None:
        """Keeps no partial file if the fetch ends early: their bytes are not the plan's."""
        self._done = [{} for _ in self.outputs.files]

    def publish(self) -> None:
        """Gives all files their final names, and writes the index.

        Raises:
            OSError: ESTALE, if a file, the journal or the folder is not the one that this fetch
                wrote; no file gets its final name then.
        """
        folder = self._folder
        assert folder is not None
        folder.check()
        if self._journal:
            self._journal.check()
        ready = [n for n, file in enumerate(self._files) if not file.published]
        for number in ready if self._journal else ():
            # A partial file's name is known to all: it may lead to another file at any moment,
            # and the file may be cut under it.
            assert self._journal is not None
            self._files[number].move(self._journal.name_to_move(number))
            self._rest(number)
        for number, file in enumerate(self._files):
            file.verify(self._done[number])
            self._rest(number)
        if self.outputs.index:
            # Without an index no reader mixes new files with old ones.
            folder.unlink(self.outputs.index[0].name)
            folder.sync()
        for number in ready:
            self._files[number].publish()
            self._rest(number)
        folder.sync()
        if self.outputs.index:
            path, text = self.outputs.index
            with replacing(path, folder) as file_of_index:
                file_of_index.write(text)
        # An interruption after this point has nothing to clean up.
        self._over = True
        if self._journal:
            self._journal.remove()

    def _open(self) -> None:
        path = self.outputs.journal.parent
        if not path.exists():
            path.mkdir()
            self._made_folder = True
        self._folder = folder = Folder(path)
        if self._resume:
            self._journal = Journal.open(self.outputs, folder)
            if self._journal is None:
                self.warnings.append(
                    f"the file system of {self.outputs.path} has no locks: if this fetch ends "
                    "early, no partial file is kept"
                )
        if self._journal:
            self._done, discarded = self._journal.begin()
            self.warnings += discarded
        for number in range(len(self.outputs.files)):
            self._files.append(self._found(number) or self._new(number))
            self._rest(number)
        self._require_space()
        for number, file in enumerate(self._files):
            if file.is_new:
                file.create()
            elif not file.published:
                file.write_header()
            self._rest(number)

    def _new(self, number: int) -> PartialFile:
        """A file that does not exist yet."""
        assert self._folder is not None
        output = self.outputs.files[number]
        named = self.outputs.part_name(number) if self._journal else None
        return PartialFile(self._folder, named or temporary_name(output.final.name), output)

    def _found(self, number: int) -> PartialFile | None:
        """The file that an earlier fetch left, if any: it may have its final name already."""
        assert self._folder is not None
        if self._journal is None or not self._journal.continued:
            return None
        file = self._new(number)
        if file.find():
            return file
        recorded, output = self._done[number], self.outputs.files[number]
        if self._folder.status(file.name) is not None:
            # Another file took its place, or its header is damaged.
            self._damaged += sum(map(output.span, recorded))
        elif len(recorded) == output.blocks:
            final = PartialFile(self._folder, output.final.name, output)
            if final.find():
                return final
        self._done[number] = {}
        return None

    def _rest(self, number: int) -> None:
        if number >= _MOST_OPEN:
            self._files[number].release()

    def _require_space(self) -> None:
        needed = sum(
            max(0, output.size - file.allocated)
            for file, output in zip(self._files, self.outputs.files, strict=True)
            if not file.published
        )
        require_space(self.outputs.journal.parent, needed, str(self.outputs.path))

    def _end(self, error: BaseException | None) -> None:
        try:
            if error is not None and not self._over:
                self._leave(error)
        finally:
            for file in self._files:
                file.close()
            if self._journal:
                self._journal.close()
            if self._folder:
                self._folder.close()

    def _leave(self, error: BaseException) -> None:
        """Keeps partial files that another fetch can resume, and removes others."""
        for file in self._files:
            file.put_back()
        ours = self._journal is None or self._journal.is_there()
        kept = {
            file: sum(map(file.output.span, done))
            for file, done in zip(self._files, self._done, strict=False)
            if done and ours and self._journal and file.is_there()
        }
        if kept:
            error.add_note(self._resume_note([*kept], sum(kept.values())))
            return
        if not ours and self._journal and self._journal.is_taken():
            # They belong to another fetch now.
            return
        for file in self._files:
            file.remove()
        if self._journal:
            self._journal.remove()
        if self._made_folder:
            with suppress(OSError):
                self.outputs.journal.parent.rmdir()

    def _resume_note(self, files: list[PartialFile], kept: int) -> str:
        first, *others = [file.path for file in files]
        where = f"{first} and {len(others)} more files" if others else str(first)
        found = f"{kept} of {self.outputs.size} bytes are kept in {where}"
        if not self._checked:
            # The journal says so, but a power cut may have taken bytes that it counts.
            found = (
                f"Up to {kept} of {self.outputs.size} bytes may be kept in {where}, which were not "
                "checked yet"
            )
        return (
            f"{found}. The same fetch resumes there, from any server or in this process; to give "
            f"it up, remove the files that end in {self.outputs.ending} and {JOURNAL}"
        )


class PartialSink(FileSink):
    """A partial file that is being written; records complete blocks in the journal.

    The bytes of a block have to come in order; blocks may come in any order.
    """

    def __init__(
        self,
        part: PartialFile,
        number: int,
        journal: Journal | None,
        done: dict[int, int],
    ) -> None:
        super().__init__(part.descriptor(), part.path, part.output.shift)
        self._output = part.output
        self._number = number
        self._journal = journal
        self._done = done
        # By number of an incomplete block: position of its next byte, and the checksum so far.
        self._begun: dict[int, tuple[int, int]] = {}
        self._unsynced = 0

    def write_at(self, offset: int, data: memoryview, /) -> None:
        """Writes bytes to their place, except the header, which is there already.

        Raises:
            OSError: if they cannot be written, or the file was cut: a write would leave a hole.
        """
        if os.fstat(self._descriptor).st_size != self._output.size:
            raise stale(Path(self._path))
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
