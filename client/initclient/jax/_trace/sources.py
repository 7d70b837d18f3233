"""Sources: the lines of code that a traced operation came from."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import jax

from initclient._laws import Line, Source

_JAX = str(Path(jax.__file__).parent)
_HERE = str(Path(__file__).parents[1])
_INITIALIZERS = f"{_JAX}/_src/nn/initializers.py"
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


def source_of(info: Any) -> Source | None:
    """Who asked for an operation.

    Args:
        info: the `source_info` of an equation.
    """
    decided: Line | None = None
    initializer = ""
    for frame in getattr(info.traceback, "frames", ()):
        file, name = frame.file_name, frame.function_name
        if file == _INITIALIZERS:
            initializer = name.partition(".")[0]
        if file.startswith((_JAX, _HERE, "<frozen")):
            continue
        line = Line.of(file, frame.line_num, name)
        decided = decided or line
        if is_of_user(file):
            return Source(decided, line, initializer)
    return None if decided is None else Source(decided, decided, initializer)


def is_of_user(file: str) -> bool:
    """Whether a file of code is the user's own: of no library, and not of the recording."""
    return "site-packages" not in file and not file.startswith(
        (_JAX, _HERE, "<frozen", *_INSTALLED)
    )


def is_of_jax(jaxpr: Any) -> bool:
    """Whether the function that was traced is JAX's own.

    JAX traces its own functions once for all callers, so that lines within them say nothing of
    the caller.
    """
    file = getattr(getattr(jaxpr, "debug_info", None), "func_filename", None)
    return file is None or str(file).startswith(_JAX)
