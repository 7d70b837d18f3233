"""Sources: the line of code that asked for an operation."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

from initclient._laws import Line, Source

_TORCH = str(Path(torch.__file__).parent)
# All of the recording: none of its lines is the user's.
_HERE = str(Path(__file__).parents[1])

_MODULES = f"{_TORCH}/nn/"

# They do what their caller decides. The last is the same for transformers' own copies of them.
_INITIALIZERS = (f"{_TORCH}/nn/init.py", "/transformers/initialization.py")


def source() -> Source:
    """The source of the operation that runs now."""
    decided: FrameType | None = None
    initializer = ""
    frame: FrameType | None = sys._getframe(1)
    last = frame
    while frame is not None:
        file = frame.f_code.co_filename
        if is_torch(file):
            if file.startswith(_INITIALIZERS[0]):
                initializer = frame.f_code.co_name
            elif decided is None and file.startswith(_MODULES):
                decided = frame
        elif file.endswith(_INITIALIZERS[1]):
            initializer = initializer or frame.f_code.co_name
        elif not file.startswith((_HERE, "<frozen")):
            called = _line(frame)
            found = called if decided is None else _line(decided)
            return Source(found, called, initializer.removeprefix("_no_grad_"))
        last, frame = frame, frame.f_back
    # Code without a file, as in an interactive session.
    assert last is not None
    return Source(_line(decided or last), _line(last), initializer)


def is_torch(file: str) -> bool:
    """Whether a file of code is torch's own."""
    return file.startswith(_TORCH)


def _line(frame: FrameType) -> Line:
    code = frame.f_code
    return Line.of(code.co_filename, frame.f_lineno, code.co_qualname)
