"""The folder of checkpoints that this process reads for plans that take values from them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeAlias

from initcore import CheckpointError, Checkpoints
from initcore.generate import pretrained
from initcore.resolve import Resolved

VARIABLE = "INITSERVE_CHECKPOINTS"

Folder: TypeAlias = str | os.PathLike[str]
"""A folder of checkpoints."""


def open_checkpoints(
    folder: Folder | Checkpoints | None, tensors: Iterable[Resolved]
) -> Checkpoints | None:
    """The checkpoints that this process reads for a plan; None if there is nothing to read.

    Args:
        folder: the folder, or opened checkpoints; None means INITSERVE_CHECKPOINTS, which need
            not exist for plans that take no values from checkpoints.
        tensors: the plan's tensors.

    Raises:
        CheckpointError: if there is no such folder.
    """
    if isinstance(folder, Checkpoints):
        return folder
    if folder is None:
        folder = os.environ.get(VARIABLE)
        if not folder or not any(any(pretrained(tensor)) for tensor in tensors):
            return None
        try:
            return Checkpoints(folder)
        except CheckpointError as error:
            raise CheckpointError(f"{error} ({VARIABLE} names it)") from error
    return Checkpoints(folder)
