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
from dataclasses import dataclass

from initcore.file.file_layout import Entry, Layout, framed
from initcore.plan import Plan

WHOLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {f"{unit[0]}iB": 1024**power for power, unit in enumerate(_UNITS, 1)}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class WeightsFile:
    """One file of weights.

    Attributes:
        name: its name in the folder.
        layout: the plan's own file of its tensors, from which the data comes.
        header: its first bytes, in place of the layout's header.
    """

    name: str
    layout: Layout
    header: bytes

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.layout.size - self.layout.data_begin


@dataclass(frozen=True)
class WeightsFiles:
    """The files of weights of a plan.

    Attributes:
        files: the files, in order.
        index: the contents of the index; None where one file holds everything.
    """

    files: tuple[WeightsFile, ...]
    index: bytes | None


def parse_shard_size(size: int | str, field: str = "shard_size") -> int:
    """Bytes, from a number or text such as "5GB" (units of 10^9 bytes) or "5GiB" (2^30).

    Args:
        size: the number or text.
        field: the name of the argument, for the error.

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
            f"{field} is {size!r}; give a number of bytes, or text such as '5GB' or '500MB'"
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


def weights_files(
    layout: Layout, shard_size: int, lay_out: Callable[[Plan], Layout]
) -> WeightsFiles:
    """The files of a plan in the Hugging Face layout.

    Args:
        layout: the plan's own file.
        shard_size: bytes of tensors in a file.
        lay_out: gives the layout of a part of the plan.

    Raises:
        PlanError: if a file's header, which the provenance makes longer, is too long for readers.
    """
    shards = split(layout.entries, shard_size)
    count = len(shards)
    if count == 1:
        return WeightsFiles((WeightsFile(WHOLE_FILE, layout, _header(layout)),), None)
    files = []
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{count:05d}.safetensors"
        tensors = [entry.tensor.name for entry in shard]
        places |= dict.fromkeys(tensors, name)
        part = lay_out(layout.plan.select(tensors))
        files.append(WeightsFile(name, part, _header(part)))
    total = sum(entry.tensor.nbytes for entry in layout.entries)
    in_order = {entry.tensor.name: places[entry.tensor.name] for entry in layout.entries}
    about = {"total_size": total, "initserve.plan_digest": layout.digest, **_came_from(layout)}
    form = {"metadata": about, "weight_map": in_order}
    text = json.dumps(form, indent=2, ensure_ascii=False) + "\n"
    return WeightsFiles(tuple(files), text.encode())


def _header(layout: Layout) -> bytes:
    """The header of a layout's file, with `format: pt` and the provenance in its metadata."""
    form = json.loads(layout.header[8:])
    form["__metadata__"] = {"format": "pt", **form["__metadata__"], **_came_from(layout)}
    return framed(json.dumps(form, separators=(",", ":"), ensure_ascii=False))


def _came_from(layout: Layout) -> dict[str, str]:
    return {f"initserve.provenance.{key}": text for key, text in layout.plan.provenance.items()}
