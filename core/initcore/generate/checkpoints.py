"""Checkpoints: safetensors files in one folder, from which `pretrained` tensors are read.

Plans are untrusted input, so a name in a plan never leads out of the folder. A file must not
change after it was first read: the bytes of a plan would change in the middle of a download.
Files are read and not mapped, since truncating a mapped file kills the process with SIGBUS.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from initcore.errors import CheckpointError, PlanError, Violation
from initcore.generate.headers import (
    MAX_HEADER_BYTES,
    HeaderError,
    StoredTensor,
    read_header,
    shown,
)
from initcore.plan import suggestion
from initcore.resolve import Pretrained, Resolved
from initcore.stream import Runs

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"

# Runs that lie closer together than this are read as one piece.
_GAP = 1 << 18
_PIECE = 8 << 20

# Longer names of tensors in files are not suggested.
_LONGEST_NAME = 200

# Runs of at least so many bytes are copied one by one.
_LONG = 1 << 12


@dataclass(frozen=True)
class _File:
    """A safetensors file as it was when it was first read."""

    path: str
    signature: tuple[int, ...]
    tensors: dict[str, StoredTensor]


class Checkpoints:
    """The checkpoints in a folder. Safe to use from several threads.

    Args:
        folder: the folder; names in plans are relative to it.

    Raises:
        CheckpointError: if there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.path.realpath(folder)
        if not os.path.isdir(self.folder):
            why = "is not a folder" if os.path.exists(self.folder) else "does not exist"
            raise CheckpointError(f"the folder of checkpoints, {os.fspath(folder)}, {why}")
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}
        self._indexes: dict[str, tuple[tuple[int, ...], dict[str, str]]] = {}
        self._digests: dict[str, str] = {}

    def check(self, tensors: Iterable[Resolved], pulse: Callable[[], None] = lambda: None) -> None:
        """Makes sure that every `pretrained` tensor can be read, and checks SHA-256s.

        Args:
            tensors: the tensors of a plan.
            pulse: called now and then during long work; an exception that it raises ends the
                work.

        Raises:
            PlanError: with all tensors that are missing or differ from the plan.
        """
        violations = []
        for index, tensor in _with_checkpoints(tensors):
            for field, leaf in pretrained(tensor):
                try:
                    self._check(leaf, pulse)
                except _Wrong as wrong:
                    violations.append(
                        Violation(tensor.name, field + wrong.field, str(wrong), index)
                    )
        if violations:
            raise PlanError(violations)

    def read(self, content: Pretrained, runs: Runs, itemsize: int) -> NDArray[np.uint8]:
        """The bytes of some elements of a tensor.

        Args:
            content: the tensor.
            runs: positions of the elements, ascending.
            itemsize: bytes of an element.

        Raises:
            CheckpointError: if the file has changed or cannot be read.
        """
        try:
            file, stored = self._find(content)
        except _Wrong as wrong:
            raise CheckpointError(f"checkpoint {content.checkpoint}: {wrong}") from wrong
        starts = stored.begin + runs.starts.astype(np.int64) * itemsize
        length = runs.length * itemsize
        out = np.empty((len(starts), length), dtype=np.uint8)
        try:
            descriptor = os.open(file.path, os.O_RDONLY)
            try:
                for first, last in _pieces(starts, length):
                    begin = int(starts[first])
                    piece = _read(descriptor, begin, int(starts[last - 1]) + length - begin)
                    offsets = starts[first:last] - begin
                    if length < _LONG:
                        out[first:last] = piece[offsets[:, None] + np.arange(length)]
                    else:
                        for number, offset in enumerate(offsets, first):
                            out[number] = piece[offset : offset + length]
                # After reading, so that a change in the meantime is found too.
                changed = _signature(os.fstat(descriptor)) != file.signature
            finally:
                os.close(descriptor)
        except OSError as error:
            # Not the error's own text, which tells the whole path to the author of the plan.
            reason = error.strerror or error
            raise CheckpointError(f"checkpoint {content.checkpoint}: {reason}") from error
        if changed:
            raise CheckpointError(_changed(content.checkpoint))
        return out.reshape(-1)

    def _check(self, tensor: Resolved, pulse: Callable[[], None]) -> None:
        content = tensor.content
        assert isinstance(content, Pretrained)
        file, stored = self._find(content)
        if stored.dtype != tensor.dtype.name:
            raise _Wrong(
                "dtype",
                f"is {tensor.dtype.name}; {content.source!r} in {content.checkpoint} has "
                f"{stored.dtype}, and checkpoints are not converted",
            )
        if stored.shape != tensor.shape:
            raise _Wrong(
                "shape",
                f"is {list(tensor.shape)}; {content.source!r} in {content.checkpoint} has "
                f"{shown(list(stored.shape))}",
            )
        if content.sha256:
            if content.checkpoint.endswith(INDEX_SUFFIX):
                raise _Wrong(
                    "sha256", "is given for an index; name the file itself, which has the values"
                )
            found = self._digest(file, pulse)
            if found != content.sha256:
                raise _Wrong(
                    "sha256", f"is {content.sha256}; the file {content.checkpoint} has {found}"
                )

    def _find(self, content: Pretrained) -> tuple[_File, StoredTensor]:
        name = content.checkpoint
        path = self._path(name)
        if name.endswith(INDEX_SUFFIX):
            shards = self._index(name, path)
            if content.source not in shards:
                raise _Wrong("source", _no_tensor(content.source, name, shards))
            name = os.path.join(os.path.dirname(name), shards[content.source])
            path = self._path(name)
        file = self._file(name, path)
        if content.source not in file.tensors:
            raise _Wrong("source", _no_tensor(content.source, name, file.tensors))
        return file, file.tensors[content.source]

    def _path(self, name: str) -> str:
        """The path of a checkpoint, which is inside the folder."""
        if not name.endswith((SUFFIX, INDEX_SUFFIX)):
            raise _Wrong("checkpoint", f"is {name!r}; it must end in {SUFFIX} or {INDEX_SUFFIX}")
        if "\0" in name or os.path.isabs(name) or ".." in Path(name).parts:
            raise _Wrong(
                "checkpoint",
                f"is {name!r}; it must be a path below the folder of checkpoints, without '..'",
            )
        path = os.path.realpath(os.path.join(self.folder, name))
        # A link may point out of the folder.
        if os.path.commonpath([path, self.folder]) != self.folder or not os.path.isfile(path):
            raise _Wrong("checkpoint", f"is {name!r}; there is no such file among the checkpoints")
        return path

    def _file(self, name: str, path: str) -> _File:
        with self._lock:
            known = self._files.get(path)
        try:
            signature = _signature(os.stat(path))
            if known and known.signature == signature:
                return known
            if known:
                raise _Wrong("checkpoint", _changed(name))
            file = _read_header(name, path)
        except OSError as error:
            raise _unreadable(name, error) from error
        with self._lock:
            return self._files.setdefault(path, file)

    def _index(self, name: str, path: str) -> dict[str, str]:
        try:
            signature = _signature(os.stat(path))
            with self._lock:
                known = self._indexes.get(path)
            if known and known[0] == signature:
                return known[1]
            if known:
                raise _Wrong("checkpoint", _changed(name))
            if signature[0] > MAX_HEADER_BYTES:
                raise _Wrong("checkpoint", f"is {name!r}, whose index has {signature[0]} bytes")
            form = json.loads(Path(path).read_bytes())
            shards = form["weight_map"]
            _check_texts([*shards, *shards.values()])
        except OSError as error:
            raise _unreadable(name, error) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _Wrong(
                "checkpoint", f"is {name!r}, which is not an index of safetensors files"
            ) from error
        with self._lock:
            self._indexes[path] = signature, shards
        return dict(shards)

    def _digest(self, file: _File, pulse: Callable[[], None]) -> str:
        with self._lock:
            known = self._digests.get(file.path)
        if known:
            return known
        digest = hashlib.sha256()
        name = os.path.relpath(file.path, self.folder)
        try:
            with open(file.path, "rb") as source:
                while block := source.read(_PIECE):
                    pulse()
                    digest.update(block)
                # Another file may have had the path for a while.
                changed = _signature(os.fstat(source.fileno())) != file.signature
        except OSError as error:
            raise _unreadable(name, error) from error
        if changed:
            raise _Wrong("checkpoint", _changed(name))
        with self._lock:
            return self._digests.setdefault(file.path, digest.hexdigest())


def check_checkpoints(
    tensors: Iterable[Resolved],
    checkpoints: Checkpoints | None,
    pulse: Callable[[], None] = lambda: None,
) -> None:
    """`Checkpoints.check` for a folder that may not be given.

    Raises:
        PlanError: as `Checkpoints.check`, and if tensors need a folder and none is given.
    """
    if checkpoints is not None:
        checkpoints.check(tensors, pulse)
        return
    text = (
        "needs a folder of checkpoints, and none was given: checkpoints=FOLDER, --checkpoints "
        "FOLDER or INITSERVE_CHECKPOINTS, for the process or the server that makes the values"
    )
    violations = [
        Violation(tensor.name, f"{field}checkpoint", text, index)
        for index, tensor in _with_checkpoints(tensors)
        for field, _ in pretrained(tensor)
    ]
    if violations:
        raise PlanError(violations)


class _Wrong(Exception):  # noqa: N818 - never leaves this module
    """A field of a tensor is wrong."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def _unreadable(name: str, error: OSError) -> _Wrong:
    return _Wrong("checkpoint", f"is {name!r}, which cannot be read: {error.strerror or error}")


def pretrained(tensor: Resolved, field: str = "") -> Iterator[tuple[str, Resolved]]:
    """The `pretrained` tensors in a tensor and its parts, each with the path to its fields."""
    if isinstance(tensor.content, Pretrained):
        yield field, tensor
    for number, part in enumerate(tensor.parts):
        yield from pretrained(part, f"{field}parts[{number}].")


def _with_checkpoints(tensors: Iterable[Resolved]) -> list[tuple[int, Resolved]]:
    """Those that may have values from checkpoints: few in most plans, which may be large."""
    return [
        (index, tensor)
        for index, tensor in enumerate(tensors)
        if tensor.parts or isinstance(tensor.content, Pretrained)
    ]


def _no_tensor(source: str, name: str, known: Iterable[str]) -> str:
    names = sorted(name for name in known if len(name) <= _LONGEST_NAME)
    text = f"is {source!r}, which {name} does not have: "
    return text + (suggestion(source, names) if len(names) < 20 else _closest(source, names))


def _closest(source: str, names: list[str]) -> str:
    text = suggestion(source, names).partition(" Known:")[0]
    return text if text.startswith("did") else f"it has {len(names)} tensors, {names[0]!r} first"


def _changed(name: str) -> str:
    return (
        f"the file {name} has changed since it was first read; give a changed file a new name, "
        "or start anew"
    )


def _signature(status: os.stat_result) -> tuple[int, ...]:
    # Without the time of the last change of the inode, a file of the same size that was written in
    # place would pass, if its writer kept the older time, or clocks are coarse.
    return (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
    )


def _pieces(starts: NDArray[np.int64], length: int) -> Iterator[tuple[int, int]]:
    """Runs that are read together, as first .. last - 1."""
    breaks = np.append(np.flatnonzero(np.diff(starts) > length + _GAP) + 1, len(starts))
    first = 0
    while first < len(starts):
        stop = breaks[np.searchsorted(breaks, first, "right")]
        last = max(min(int(np.searchsorted(starts, starts[first] + _PIECE)), int(stop)), first + 1)
        yield first, last
        first = last


def _read(descriptor: int, begin: int, size: int) -> NDArray[np.uint8]:
    out = np.empty(size, dtype=np.uint8)
    view, done = out.data, 0
    while done < size:
        count = os.preadv(descriptor, [view[done:]], begin + done)
        if not count:
            raise OSError("the file ends early")
        done += count
    return out


def _read_header(name: str, path: str) -> _File:
    """A file, with the tensors that its header lists.

    Raises:
        _Wrong: if it is none that the safetensors library takes.
        OSError: if it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        signature = _signature(os.fstat(descriptor))
        return _File(path, signature, read_header(descriptor))
    except HeaderError as error:
        raise _Wrong(
            "checkpoint", f"is {name!r}, which is not a safetensors file: {error}"
        ) from error
    finally:
        os.close(descriptor)


def _check_texts(texts: Iterable[str]) -> None:
    """Refuses lone surrogates, which JSON can hold, but neither paths nor messages can."""
    for text in texts:
        text.encode()
