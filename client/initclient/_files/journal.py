"""The journal of partial files: the files they belong to, and their complete blocks.

Its first line is a JSON object; each other line is a block: number of the file, number of the
block, CRC-32C. Lines are only appended, in one write each, and malformed lines are skipped: a
torn line loses its block. The process that holds the journal's lock writes the files.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import stat
from contextlib import suppress
from typing import Any

from initcore.file import BLOCK

from initclient._files.atomic import opened
from initclient._files.folder import Folder, stale
from initclient._files.outputs import PART, SHARD_PART, Outputs, sibling_name
from initclient._machine import fcntl, os

_FORMAT = "initserve.journal.v1"
_LINE = re.compile(rb"(\d{1,10}) (\d{1,15}) ([0-9a-f]{8})")
_MOVED = re.compile(rb"moved (\d{1,10}) ([0-9a-f]{16})")

# How often a journal is begun anew until its first line comes first. `check` finds one that never
# did.
_ATTEMPTS = 8

# The journal of 100 TB has this length; a longer file is no journal.
_MOST_BYTES = 1 << 28


class Journal:
    """An open journal, locked for this process.

    Args:
        descriptor: the locked file.
        outputs: the files that it describes.
        folder: their folder.

    Attributes:
        continued: whether it was begun by an earlier fetch of the same files.
    """

    def __init__(self, descriptor: int, outputs: Outputs, folder: Folder) -> None:
        self._descriptor = descriptor
        self._outputs = outputs
        self._folder = folder
        self.continued = False
        self._first = b""

    @classmethod
    def open(cls, outputs: Outputs, folder: Folder) -> Journal | None:
        """Opens and locks the journal; creates it if it does not exist.

        Returns:
            The journal; None if its file system has no locks; then no file is left.

        Raises:
            OSError: if another process holds the lock, or the file cannot be written.
        """
        name = outputs.journal.name
        while True:
            descriptor = opened(folder, name, outputs.path, os.O_CREAT | os.O_APPEND)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "it is not a regular file", str(outputs.journal))
                if not _lock(descriptor, outputs):
                    if not os.fstat(descriptor).st_size and folder.has(name, descriptor):
                        folder.unlink(name)
                    os.close(descriptor)
                    return None
                # The last holder of the lock may have removed the file meanwhile.
                if folder.has(name, descriptor):
                    return cls(descriptor, outputs, folder)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def begin(self) -> tuple[list[dict[int, int]], list[str]]:
        """Reads the journal, or discards the journal and partial files of another fetch.

        Returns:
            For each file the checksums of its written blocks, by number; and warnings about
            discarded files.
        """
        text = self._read()
        first, _, lines = text.partition(b"\n")
        form = _form(first)
        wanted = self._identity()
        if form is not None and form.get("content") == wanted["content"]:
            self.continued = True
            self._first = first + b"\n"
            if not text.endswith(b"\n"):
                self._append(b"\n")
            self._take_back(lines)
            return self._blocks(lines), []
        discarded = self._discard(form, text)
        first_line = json.dumps(wanted).encode() + b"\n"
        for _ in range(_ATTEMPTS):
            os.ftruncate(self._descriptor, 0)
            self._append(first_line)
            if os.pread(self._descriptor, len(first_line), 0) == first_line:
                break
            # Where locks do nothing, another fetch may record a block between the two calls.
        # Afterwards: a journal that has no whole first line is ours to remove.
        self._first = first_line
        return [{} for _ in self._outputs.files], discarded

    def record(self, number: int, index: int, crc: int) -> None:
        """Records that a block of a file was written.

        Raises:
            OSError: if the journal cannot be written.
        """
        # Streams record at once. A call may write only a part, near a full disk: the next line, of
        # this stream or another, does not continue that part.
        line = b"\n%d %d %08x\n" % (number, index, crc)
        while os.write(self._descriptor, line) < len(line):
            pass

    def name_to_move(self, number: int) -> str:
        """A unique name for a file on its way to its final one.

        The next fetch finds the file under it, if this process is killed on the way.

        Raises:
            OSError: if the journal cannot be written.
        """
        key = os.urandom(8).hex()
        self._append(f"moved {number} {key}\n".encode())
        return moved_name(key)

    def is_there(self) -> bool:
        """Whether the journal's name still leads to it, and no other fetch has begun it anew."""
        with suppress(OSError):
            return (
                self._folder.has(self._outputs.journal.name, self._descriptor)
                and os.pread(self._descriptor, len(self._first), 0) == self._first
            )
        return False

    def is_taken(self) -> bool:
        """Whether its name leads to the journal of another fetch."""
        return not self.is_there() and self._folder.status(self._outputs.journal.name) is not None

    def check(self) -> None:
        """Makes sure that the journal is still the one that this fetch wrote.

        Raises:
            OSError: ESTALE, if it is not: another process may be writing the same files.
        """
        if not self.is_there():
            raise stale(self._outputs.journal)

    def remove(self) -> None:
        """Removes the journal: the files are complete, or given up."""
        with suppress(OSError):
            if self._folder.has(self._outputs.journal.name, self._descriptor):
                self._folder.unlink(self._outputs.journal.name)
        self.close()

    def close(self) -> None:
        """Releases the lock; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _append(self, line: bytes) -> None:
        while line:
            # A call may write only a part, near a full disk.
            line = line[os.write(self._descriptor, line) :]

    def _read(self) -> bytes:
        size = os.fstat(self._descriptor).st_size
        return b"" if size > _MOST_BYTES else os.pread(self._descriptor, size, 0)

    def _identity(self) -> dict[str, Any]:
        """The first line; `content` is equal if and only if two fetches write the same files."""
        found = hashlib.sha256(b"%d" % BLOCK)
        for output in self._outputs.files:
            found.update(b"%d %d " % (output.size, len(output.header)))
            found.update(os.fsencode(output.final.name) + b"\0" + output.header)
            found.update(output.layout.digest.encode())
        if self._outputs.ending != PART:
            # Release 0.2.0 had one ending for all: its partial files of shards are discarded.
            found.update(self._outputs.ending.encode())
        return {
            "format": _FORMAT,
            "digest": self._outputs.digest,
            "content": found.hexdigest(),
            "files": [output.final.name for output in self._outputs.files],
        }

    def _blocks(self, lines: bytes) -> list[dict[int, int]]:
        files = self._outputs.files
        found: list[dict[int, int]] = [{} for _ in files]
        for line in lines.split(b"\n"):
            match = _LINE.fullmatch(line)
            if match:
                number, index = int(match[1]), int(match[2])
                if number < len(files) and index < files[number].blocks:
                    found[number][index] = int(match[3], 16)
        return found

    def _take_back(self, lines: bytes) -> None:
        """Gives files that a killed fetch had moved their first names again."""
        for number, name in _moved(lines):
            with suppress(OSError):
                if number >= len(self._outputs.files):
                    continue
                home = self._outputs.part_name(number)
                if self._folder.status(name) is None:
                    continue
                if self._folder.status(home) is None:
                    self._folder.rename(name, home)
                else:
                    self._folder.unlink(name)

    def _discard(self, form: dict[str, Any] | None, text: bytes) -> list[str]:
        """Removes the partial files of another fetch.

        Args:
            form: the first line of its journal; None if it is malformed.
            text: its journal.
        """
        names = form.get("files", []) if form else []
        parts = {
            sibling_name(name, ending)
            for name in names
            if _is_name(name)
            for ending in (PART, SHARD_PART)
        }
        parts |= {self._outputs.part_name(n) for n in range(len(self._outputs.files))}
        parts |= {name for _, name in _moved(text)}
        removed = 0
        for part in sorted(parts):
            with suppress(OSError):
                found = self._folder.status(part)
                if found is not None:
                    self._folder.unlink(part)
                    removed += max(1, found.st_size)
        if not removed:
            return []
        theirs = str(form.get("digest", ""))[:12] if form else ""
        ours = self._outputs.digest[:12]
        if not form:
            why = "whose journal cannot be read"
        elif theirs == ours:
            why = "of the same plan in other files"
        else:
            why = f"of another plan (digest {theirs}..., not {ours}...)"
        return [f"a partial file {why} was there for {self._outputs.path}; it is discarded"]


def moved_name(key: str) -> str:
    """The name of a partial file on its way to its final name."""
    return f".{key}{PART}"


def _moved(lines: bytes) -> list[tuple[int, str]]:
    """The files that were moved, by number, and the names that they got."""
    matches = map(_MOVED.fullmatch, lines.split(b"\n"))
    return [(int(one[1]), moved_name(one[2].decode())) for one in matches if one]


def _is_name(name: object) -> bool:
    """Whether text from a journal is the name of a file, and not a path."""
    try:
        encoded = os.fsencode(name) if isinstance(name, str) else b""
    except UnicodeError:
        # A lone surrogate, which JSON can hold.
        return False
    return bool(encoded) and b"/" not in encoded and b"\0" not in encoded


def _lock(descriptor: int, outputs: Outputs) -> bool:
    """Locks a file; False if its file system has no locks.

    Raises:
        BlockingIOError: if another process holds the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            text = "another process is writing it; let only one process write it"
            raise BlockingIOError(errno.EWOULDBLOCK, text, str(outputs.path)) from error
        return False
    return True


def _form(line: bytes) -> dict[str, Any] | None:
    """The first line of a journal, parsed; None if it is malformed."""
    try:
        form = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(form, dict) and form.get("format") == _FORMAT
    return form if known and isinstance(form.get("files"), list) else None
