"""The files beside a plan in its folder, such as config.json and those of a tokenizer."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from initclient._commands._folders import PLAN_FILE, WEIGHTS
from initclient._commands._mount.tree import File

# A folder with more is hardly one model's.
_MOST_FILES = 1000


@dataclass(frozen=True)
class _Opened:
    """An opened file of this machine, as it was when it was opened."""

    descriptor: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range."""
        return os.pread(self.descriptor, min(length, max(self.size - offset, 0)), offset)


@contextmanager
def files_beside(folder: Path) -> Iterator[dict[str, File]]:
    """The files of a model's folder, without the plan and hidden ones, open for the body.

    Args:
        folder: the folder that holds plan.yaml.

    Yields:
        The files by their paths below the folder.

    Raises:
        ValueError: if the folder holds weights, or too many files.
        OSError: if one cannot be opened.
    """
    with ExitStack() as stack:
        yield {path: _open(folder / path, stack) for path in _paths(folder)}


def _paths(folder: Path) -> list[str]:
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        # Without hidden ones: a ConfigMap keeps its versions in such folders.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(parent, name), folder)
            if name.startswith(".") or path == PLAN_FILE:
                continue
            if WEIGHTS.fullmatch(name):
                raise ValueError(
                    f"{folder} holds the weights {path} beside {PLAN_FILE}; the mounted folder has "
                    f"those of the plan: remove them, or give {folder / PLAN_FILE} alone"
                )
            found.append(path)
            if len(found) > _MOST_FILES:
                raise ValueError(
                    f"{folder} has more than {_MOST_FILES} files; give the folder of one model"
                )
    return found


def _open(path: Path, stack: ExitStack) -> File:
    # A pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    stack.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a regular file; a model's folder holds files and folders")
    return _Opened(descriptor, status.st_size)
