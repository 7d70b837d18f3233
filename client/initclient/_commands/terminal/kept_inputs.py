"""What --out may not be: a file that the command reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from initclient._commands.terminal.standard_output import STANDARD_OUTPUT

_WEIGHTS = "*.safetensors"
_INDEX = ".safetensors.index.json"


def refuse_as_output(out: str | None, what: str, paths: Iterable[str | Path | None]) -> None:
    """Refuses an --out that is one of the files that the command reads, by any of its names.

    Args:
        out: --out.
        what: what the files are.
        paths: the files. None and files that do not exist are no input.

    Raises:
        ValueError: if it is one of them.
    """
    if out in (None, STANDARD_OUTPUT):
        return
    assert out is not None
    for path in paths:
        if path is not None and _is_same(out, path):
            raise ValueError(f"{path} is {what} itself; give another name to --out")


def weights_at(place: str) -> list[Path | str]:
    """The files that a checkpoint has, whether `place` is one, an index or a folder."""
    path = Path(place)
    if path.is_dir():
        return [*path.glob(_WEIGHTS), *path.glob(f"*{_INDEX}")]
    beside = path.parent.glob(_WEIGHTS) if place.endswith(_INDEX) else ()
    return [place, *beside]


def _is_same(one: str, other: str | Path) -> bool:
    try:
        # A folder is no output file: `plan` makes a model folder beside a config.
        return os.path.samefile(one, other) and not os.path.isdir(one)
    except OSError:
        return False
