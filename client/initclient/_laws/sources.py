"""Sources: the line of code that asked for an operation."""

from __future__ import annotations

from dataclasses import dataclass


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

    @classmethod
    def of(cls, path: str, number: int, function: str) -> Line:
        """The line of a file, by the file's whole path."""
        return cls(path.rpartition("site-packages/")[2], number, function)

    def __str__(self) -> str:
        return f"{self.file}:{self.number} ({self.function})"


@dataclass(frozen=True)
class Source:
    """Who asked for an operation.

    Attributes:
        decided: the line that chose it: the user's, or that of a layer of a library.
        called: the innermost line of the user's code.
        initializer: the library's initializer in between; "" without one.
    """

    decided: Line
    called: Line
    initializer: str = ""

    def __str__(self) -> str:
        return str(self.decided)
