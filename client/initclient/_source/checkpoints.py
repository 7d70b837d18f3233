"""Files that are made in this process, and the checkpoints that they take values from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

from initcore import Checkpoints, Layout, VirtualFile
from initcore.backends import Backend
from initcore.generate import check_checkpoints, pretrained

VARIABLE = "INITSERVE_CHECKPOINTS"

Folder: TypeAlias = str | os.PathLike[str]
"""A folder of checkpoints."""


def open_checkpoints(
    folder: Folder | Checkpoints | None, laid_out: Layout, servers: Sequence[str] | None
) -> Checkpoints | None:
    """The checkpoints that this process reads for a plan; None if there is nothing to read.

    Args:
        folder: the folder, or what it was opened as; None means INITSERVE_CHECKPOINTS, which
            counts for plans that take values from checkpoints and else need not exist.
        laid_out: the plan.
        servers: the servers that make the values; None if this process does.

    Raises:
        ValueError: if a folder is given and servers make the values.
        CheckpointError: if there is no such folder.
    """
    if servers is not None:
        if folder is not None:
            raise ValueError(
                f"checkpoints is {_name(folder)!r}, but the values come from the server at "
                f"{', '.join(servers)}, which reads a folder of its own (initserver "
                "--checkpoints); leave checkpoints out, or give target='local' (--target local) to "
                "make the values in this process"
            )
        return None
    if isinstance(folder, Checkpoints):
        return folder
    if folder is None:
        folder = os.environ.get(VARIABLE)
        if not folder or not _takes_values(laid_out):
            return None
    return Checkpoints(folder)


def open_file(laid_out: Layout, backend: Backend, checkpoints: Checkpoints | None) -> VirtualFile:
    """The virtual file of a plan, whose checkpoints were found to hold what it takes.

    Raises:
        PlanError: if a checkpoint does not have what the plan says, or there is no folder.
    """
    check(laid_out, checkpoints)
    return VirtualFile(laid_out, backend, checkpoints=checkpoints)


def check(laid_out: Layout, checkpoints: Checkpoints | None) -> None:
    """Makes sure that the checkpoints hold what a plan takes, and checks SHA-256s.

    Raises:
        PlanError: if they do not, or there is no folder.
    """
    check_checkpoints([entry.tensor for entry in laid_out.entries], checkpoints)


def _takes_values(laid_out: Layout) -> bool:
    return any(any(pretrained(entry.tensor)) for entry in laid_out.entries)


def _name(folder: Folder | Checkpoints) -> str:
    return folder.folder if isinstance(folder, Checkpoints) else os.fspath(folder)
