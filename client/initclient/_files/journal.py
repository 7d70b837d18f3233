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
from contextlib import suppress
from pathlib import Path
from typing import Any

from initcore.file import BLOCK

from initclient._files.atomic import create
from initclient._files.outputs import PART, Outputs, sibling_name
from initclient._machine import fcntl, os

_FORMAT = "initserve.journal.v1"
_LINE = re.compile(rb"(\d{1,10}) (\d{1,15}) ([0-9a-f]{8})")

# The journal of 100 TB has this length; a longer file is no journal.
_MOST_BYTES = 1 << 28


class Journal:
    """An open journal, locked for this process.

    Args:
        descriptor: the locked file.
        outputs: the files that it describes.
    """

    def __init__(self, descriptor: int, outputs: Outputs) -> None:
        self._descriptor = descriptor
        self._outputs = outputs

    @classmethod
    def open(cls, outputs: Outputs) -> Journal | None:
        """Opens and locks the journal; creates it if it does not exist.

        Returns:
            The journal; None if its file system has no locks; then no file is left.

        Raises:
            OSError: if another process holds the lock, or the file cannot be written.
        """
        path = outputs.journal
        while True:
            descriptor = create(path, outputs.path, new=False, append=True)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The last holder of the lock may have removed the file meanwhile.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                        return cls(descriptor, outputs)
                os.close(descriptor)
            except OSError as error:
                empty = os.fstat(descriptor).st_size == 0
                os.close(descriptor)
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    text = "another process is writing it; let only one process write it"
                    raise BlockingIOError(errno.EWOULDBLOCK, text, str(outputs.path)) from error
                if empty:
                    with suppress(OSError):
                        path.unlink()
                return None

    def begin(self, parts: list[Path]) -> tuple[list[dict[int, int]], list[str]]:
        """Reads the journal, or discards the journal and partial files of another fetch.

        Args:
            parts: the partial files that it describes.

        Returns:
            For each file the checksums of its written blocks, by number; and warnings about
            discarded files.
        """
        text = self._read()
        first, _, lines = text.partition(b"\n")
        form = _form(first)
        wanted = self._identity()
        if form is not None and form.get("content") == wanted["content"]:
            if not text.endswith(b"\n"):
                self._append(b"\n")
            return self._blocks(lines), []
        discarded = self._discard(form, parts) if text or any(map(Path.exists, parts)) else []
        os.ftruncate(self._descriptor, 0)
        self._append(json.dumps(wanted).encode() + b"\n")
        return [{} for _ in parts], discarded

    def record(self, number: int, index: int, crc: int) -> None:
        """Records that a block of a file was written.

        Raises:
            OSError: if the journal cannot be written.
        """
        self._append(b"%d %d %08x\n" % (number, index, crc))

    def remove(self) -> None:
        """Removes the journal: the files are complete, or given up."""
        with suppress(OSError):
            self._outputs.journal.unlink()
        self.close()

    def close(self) -> None:
        """Releases the lock; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _append(self, line: bytes) -> None:
        os.write(self._descriptor, line)

    def _read(self) -> bytes:
        size = os.fstat(self._descriptor).st_size
        return b"" if size > _MOST_BYTES else os.pread(self._descriptor, size, 0)

    def _identity(self) -> dict[str, Any]:
        """The first line; `content` is equal if and only if two fetches write the same files."""
        found = hashlib.sha256(b"%d" % BLOCK)
        for output in self._outputs.files:
            found.update(b"%d %d " % (output.size, len(output.header)))
            found.update(output.final.name.encode() + b"\0" + output.header)
            found.update(output.layout.digest.encode())
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

    def _discard(self, form: dict[str, Any] | None, parts: list[Path]) -> list[str]:
        """Removes the partial files of another fetch."""
        names = form.get("files", []) if form else []
        names = [name for name in names if isinstance(name, str)]
        folder = self._outputs.journal.parent
        others = [
            folder / sibling_name(name, PART) for name in names if name == os.path.basename(name)
        ]
        removed = 0
        for part in {*others, *parts}:
            with suppress(OSError):
                removed += part.stat().st_size
                part.unlink()
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


def _form(line: bytes) -> dict[str, Any] | None:
    """The first line of a journal, parsed; None if it is malformed."""
    try:
        form = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(form, dict) and form.get("format") == _FORMAT
    return form if known and isinstance(form.get("files"), list) else None
