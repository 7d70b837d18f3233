"""Sources: the line of code that asked for an operation."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

_TORCH = str(Path(torch.__file__).parent)
# All of the recording: none of its lines is the user's.
_HERE = str(Path(__file__).parents[1])

_MODULES = f"{_TORCH}/nn/"

# They do what their caller decides. The last is the same for transformers' own copies of them.
_INITIALIZERS = (f"{_TORCH}/nn/init.py", "/transformers/initialization.py")


@dataclass(frozen=True)
class Line:
    """A line of code.

    Attributes:
        file: its path, below site-packages if it lies there.
        number: the line, from 1.
        function: the function around it.
    """

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.number} ({self.function})"


@dataclass(frozen=True)
class Source:
    """Who asked for an operation.

    Attributes:
        decided: the line that chose it, in a module of torch or outside torch.
        called: the innermost line outside torch.
        initializer: the function of torch.nn.init in between; "" without one.
    """

    decided: Line
    called: Line
    initializer: str = ""

    def __str__(self) -> str:
        return str(self.decided)


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
    return Line(_short(code.co_filename), frame.f_lineno, code.co_qualname)


def _short(path: str) -> str:
    return path.rpartition("site-packages/")[2]
