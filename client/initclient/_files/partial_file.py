"""One partial file: the inode that a fetch writes, under whatever name it has.

Other processes and people may remove, replace, cut or rename a partial file at any moment, and
some file systems have locks that do nothing. So a fetch keeps the file open, and trusts names
only after it has compared them with the open file. It writes only into files that it created
itself, or that begin with the header of its own plan, which nobody but their creator writes:
two plans never write into one file.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from initcore.file import MAX_HEADER_BYTES
from initcore.wire import crc32c

from initclient._files.atomic import create, opened, preallocate
from initclient._files.folder import Folder, stale
from initclient._files.outputs import Output
from initclient._files.sinks import FileSink
from initclient._machine import os

_READ_BYTES = 1 << 20


class PartialFile:
    """A file of a fetch on the disk.

    Args:
        folder: its folder.
        name: its name there.
        output: the file that it becomes.

    Attributes:
        name: its name now.
        output: the file that it becomes.
    """

    def __init__(self, folder: Folder, name: str, output: Output) -> None:
        self.name = self._home = name
        self.output = output
        self._folder = folder
        self._descriptor = -1
        self._identity: tuple[int, ...] = ()
        self._creating = False

    @property
    def path(self) -> Path:
        """Its path, for messages."""
        return self._folder.path / self.name

    @property
    def published(self) -> bool:
        """Whether it has its final name."""
        return self.name == self.output.final.name

    @property
    def is_new(self) -> bool:
        """Whether there is no such file yet."""
        return self._descriptor < 0 and not self._identity

    @property
    def allocated(self) -> int:
        """Bytes that it occupies on the disk."""
        return 0 if self.is_new else os.fstat(self.descriptor()).st_blocks * 512

    def find(self) -> bool:
        """Opens the file of that name, if it is a file of this plan.

        A partial file has no other name, under which others may use it, and its full size:
        another fetch that is writing it must notice that it was cut.
        """
        try:
            descriptor = (
                self._folder.open(self.name, os.O_RDONLY)
                if self.published
                else opened(self._folder, self.name, self.output.final, 0)
            )
        except OSError:
            return False
        found = os.fstat(descriptor)
        if (
            stat.S_ISREG(found.st_mode)
            and found.st_size == self.output.size
            and (self.published or found.st_nlink == 1)
            and self._begins_right(descriptor)
        ):
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False

    def create(self) -> None:
        """Creates the file, with its size and header; removes another one of its name.

        Raises:
            OSError: if it cannot be created.
        """
        final = self.output.final
        try:
            self._folder.unlink(self.name)
            self._creating = True
            self._descriptor = create(self._folder, self.name, final)
            self._creating = False
        except OSError as error:
            self._creating = False
            if isinstance(error, FileExistsError):
                text = "another process is writing it; let only one process write it"
                raise BlockingIOError(errno.EWOULDBLOCK, text, str(final)) from error
            raise
        preallocate(self._descriptor, self.output.size, final)
        self.write_header()

    def write_header(self) -> None:
        """Writes the header.

        Raises:
            OSError: if it cannot be written.
        """
        FileSink(self.descriptor(), self.path).write_at(0, memoryview(self.output.header))

    def _begins_right(self, descriptor: int) -> bool:
        """Whether a file can be this plan's: another fetch may be writing any other file.

        A partial file whose header is damaged so far that it is none can be no other plan's.
        """
        header = os.pread(descriptor, len(self.output.header), 0)
        if header == self.output.header:
            return True
        empty = not header.strip(b"\0")
        other = int.from_bytes(header[:8], "little") <= MAX_HEADER_BYTES
        return not (self.published or empty or other)

    def descriptor(self) -> int:
        """The open file.

        Raises:
            OSError: ESTALE, if it was closed meanwhile and another file has its name.
        """
        if self._descriptor < 0:
            if not self.find():
                raise stale(self.path)
            if _identity(self._descriptor) != self._identity:
                self.close()
                raise stale(self.path)
        return self._descriptor

    def release(self) -> None:
        """Closes the file until the next use, which recognizes it."""
        if self._descriptor >= 0:
            self._identity = _identity(self._descriptor)
            self.close()

    def close(self) -> None:
        """Closes the file; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def is_there(self) -> bool:
        """Whether its name still leads to it, in its full size."""
        with suppress(OSError):
            descriptor = self.descriptor()
            whole = os.fstat(descriptor).st_size == self.output.size
            return whole and self._folder.has(self.name, descriptor)
        return False

    def verify(self, done: dict[int, int]) -> None:
        """Makes sure, before the file is published, that it is whole, on the disk, and its own.

        Args:
            done: the checksum of each block, by number.

        Raises:
            OSError: ESTALE, if it is not; or if it cannot be synced.
        """
        if len(done) != self.output.blocks or not self.is_there():
            raise stale(self.path)
        descriptor = self.descriptor()
        os.fsync(descriptor)
        if os.fstat(descriptor).st_blocks * 512 < self.output.size and (
            os.pread(descriptor, len(self.output.header), 0) != self.output.header
            or self.agreeing(done) != done
        ):
            # It has holes: somebody cut it, and later writes gave it its size again. A file
            # system that compresses, or counts no blocks, costs one reading more.
            raise stale(self.path)

    def agreeing(
        self, done: dict[int, int], found: Callable[[int], None] = lambda nbytes: None
    ) -> dict[int, int]:
        """The blocks whose bytes have the checksum that was recorded.

        Args:
            done: the recorded checksums, by number of the block.
            found: called with the bytes of each such block.
        """
        descriptor, shift = self.descriptor(), self.output.shift
        same = {}
        for index, crc in sorted(done.items()):
            begin, end = self.output.block(index)
            if _crc_of(descriptor, begin + shift, end + shift) == crc:
                same[index] = crc
                found(self.output.span(index))
        return same

    def move(self, name: str) -> None:
        """Gives the file a name that no other process uses, on its way to the final one.

        If another file takes its old name at the last moment, that file is moved instead:
        `verify` notices it, and `put_back` gives it its name again.

        Raises:
            OSError: ESTALE, if another file has its name.
        """
        if not self._folder.has(self.name, self.descriptor()):
            raise stale(self.path)
        try:
            self._folder.rename(self.name, name)
        except FileNotFoundError as error:
            raise stale(self.path) from error
        self.name = name

    def publish(self) -> None:
        """Gives the moved file its final name.

        Raises:
            OSError: ESTALE, if another file has its name.
        """
        final = self.output.final.name
        self._folder.publish(self.descriptor(), self.name, final)
        self.name = self._home = final

    def put_back(self) -> None:
        """Gives a moved file its first name again; removes it if that is taken."""
        if self.name != self._home:
            with suppress(OSError):
                if self._folder.status(self._home) is None:
                    self._folder.rename(self.name, self._home)
                elif self._folder.has(self.name, self.descriptor()):
                    self._folder.unlink(self.name)
                self.name = self._home

    def remove(self) -> None:
        """Removes the file, unless it is published or another one has its name."""
        with suppress(OSError):
            if self._creating and self._descriptor < 0:
                # A signal's exception came between the file's creation and the note of it.
                found = self._folder.status(self.name)
                if found is not None and found.st_size == 0:
                    self._folder.unlink(self.name)
            elif (
                not self.is_new
                and not self.published
                and self._folder.has(self.name, self.descriptor())
            ):
                self._folder.unlink(self.name)


def _identity(descriptor: int) -> tuple[int, ...]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


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
