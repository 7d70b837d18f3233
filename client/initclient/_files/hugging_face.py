"""The Hugging Face layout: a plan's tensors in files of limited size, and their index.

Files are split as huggingface_hub splits a state dict, and named and indexed as transformers
does. Each is the file of a part of the plan, so that servers serve its data by range. Only the
header is made here: readers need `format: pt` in its metadata, and the header of a plan's own
file is fixed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from initcore import Entry, Layout, Plan

from initclient._files.outputs import JOURNAL, PART, SHARD_PART, Output, Outputs
from initclient._machine import os

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {f"{unit[0]}iB": 1024**power for power, unit in enumerate(_UNITS, 1)}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)?\s*", re.IGNORECASE)
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")


def parse_shard_size(size: int | str) -> int:
    """Bytes, from a number or text such as "5GB" (units of 10^9 bytes) or "5GiB" (2^30).

    Raises:
        ValueError: for other text or types, and for less than a byte.
    """
    found = size if isinstance(size, int) and not isinstance(size, bool) else 0
    if isinstance(size, str) and (match := _SIZE.fullmatch(size)):
        unit = (match[2] or "").upper().replace("IB", "iB")
        number = float(match[1]) * _UNITS.get(unit, 1)
        found = int(number) if math.isfinite(number) else 0
    if found < 1:
        raise ValueError(
            f"shard_size is {size!r}; give a number of bytes, or text such as '5GB' or '500MB'"
        )
    return found


def split(entries: Sequence[Entry], shard_size: int) -> list[list[Entry]]:
    """Splits tensors into files, in order, as huggingface_hub does.

    Each file takes tensors until the next one does not fit. A tensor larger than `shard_size`
    has a file of its own, which comes before the file in progress.
    """
    shards: list[list[Entry]] = []
    current: list[Entry] = []
    size = 0
    for entry in entries:
        length = entry.tensor.nbytes
        if length > shard_size:
            shards.append([entry])
            continue
        if size + length > shard_size:
            shards.append(current)
            current, size = [], 0
        current.append(entry)
        size += length
    if current or not shards:
        shards.append(current)
    return shards


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
    shards = split(layout.entries, shard_size)
    names = [WHOLE]
    if len(shards) > 1:
        count = len(shards)
        names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    folder = _folder(path, {*names, INDEX} if len(shards) > 1 else set(names))
    files = []
    places: dict[str, str] = {}
    for name, shard in zip(names, shards, strict=True):
        tensors = [entry.tensor.name for entry in shard]
        places |= dict.fromkeys(tensors, name)
        part = layout if len(shards) == 1 else lay_out(layout.plan.select(tensors))
        files.append(Output(folder / name, part, _header(part)))
    index = None
    if len(shards) > 1:
        total = sum(entry.tensor.nbytes for entry in layout.entries)
        in_order = {entry.tensor.name: places[entry.tensor.name] for entry in layout.entries}
        about = {"total_size": total, "initserve.plan_digest": layout.digest, **_came_from(layout)}
        form = {"metadata": about, "weight_map": in_order}
        text = json.dumps(form, indent=2, ensure_ascii=False) + "\n"
        index = (folder / INDEX, text.encode())
    # One journal for any shard size, so that its lock refuses a second fetch into the folder.
    journal = folder / (WHOLE + JOURNAL)
    # The journal of a single file is that of fetching this file alone, and so are its names.
    ending = SHARD_PART if len(shards) > 1 else PART
    return Outputs(Path(path), tuple(files), journal, layout.digest, index, ending)


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
        name for name in there if (_WEIGHTS.fullmatch(name) or name == INDEX) and name not in names
    )
    if others:
        raise FileExistsError(
            f"{path} holds other weights, such as {others[0]}, which readers would mix with the "
            "new ones; remove them, or give another folder"
        )
    return folder


def _header(layout: Layout) -> bytes:
    """The header of a layout's file, with `format: pt` and the provenance in its metadata."""
    form = json.loads(layout.header[8:])
    form["__metadata__"] = {"format": "pt", **form["__metadata__"], **_came_from(layout)}
    text = json.dumps(form, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _came_from(layout: Layout) -> dict[str, str]:
    return {f"initserve.provenance.{key}": text for key, text in layout.plan.provenance.items()}
