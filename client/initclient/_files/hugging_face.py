"""Files in the Hugging Face layout, as outputs in a folder with one journal.

How a plan is split, named and indexed is `initcore.file`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from initcore import Layout, Plan
from initcore.file import INDEX_FILE, WHOLE_FILE, weights_files

from initclient._files.outputs import JOURNAL, PART, SHARD_PART, Output, Outputs
from initclient._machine import os

_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")


def sharded(
    path: str | os.PathLike[str],
    layout: Layout,
    shard_size: int,
    lay_out: Callable[[Plan], Layout],
) -> Outputs:
    """The files of a plan in the Hugging Face layout.

    Args:
        path: the folder; created if it does not exist.
        layout: the plan's own file.
        shard_size: bytes of tensors in a file.
        lay_out: gives the layout of a part of the plan.

    Raises:
        OSError: if the folder cannot be created, or holds other weights.
    """
    parts = weights_files(layout, shard_size, lay_out)
    names = {file.name for file in parts.files}
    folder = _folder(path, names if parts.index is None else {*names, INDEX_FILE})
    files = tuple(Output(folder / file.name, file.layout, file.header) for file in parts.files)
    index = None if parts.index is None else (folder / INDEX_FILE, parts.index)
    # One journal for any shard size, so that its lock refuses a second fetch into the folder.
    journal = folder / (WHOLE_FILE + JOURNAL)
    # The journal of a single file is that of fetching this file alone, and so are its names.
    ending = PART if index is None else SHARD_PART
    return Outputs(Path(path), files, journal, layout.digest, index, ending)


def _folder(path: str | os.PathLike[str], names: set[str]) -> Path:
    if not os.fspath(path):
        raise FileNotFoundError("the name of the folder is empty")
    folder = Path(os.path.realpath(path))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{path} is a file; with a shard size, give the name of a folder")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"the folder {folder.parent} of {path} does not exist")
    there = os.listdir(folder) if folder.is_dir() else []
    others = sorted(
        name
        for name in there
        if (_WEIGHTS.fullmatch(name) or name == INDEX_FILE) and name not in names
    )
    if others:
        raise FileExistsError(
            f"{path} holds other weights, such as {others[0]}, which readers would mix with the "
            "new ones; remove them, or give another folder"
        )
    return folder
