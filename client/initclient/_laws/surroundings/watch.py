"""Watch: which lines of a model's own code asked for something that no plan decides."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import FrameType

from initclient._laws import Line

_PATHS = sysconfig.get_paths()
STDLIB: str = _PATHS["stdlib"]
PACKAGES = tuple({_PATHS["purelib"], _PATHS["platlib"]})
_HERE = str(Path(__file__).parents[2])

# Between the model's code and what it asks for: parts of the standard library that pass a call on,
# and packages that draw with the generator they are given.
_PASSED = tuple(
    f"{STDLIB}/{name}"
    for name in (
        "_collections_abc.py",
        "contextlib.py",
        "functools.py",
        "multiprocessing/",
        "os.py",
        "random.py",
        "secrets.py",
        "uuid.py",
    )
) + tuple(f"{folder}/{name}/" for folder in PACKAGES for name in ("numpy", "scipy", "sklearn"))

LATER = 400 * 86400.0 + 12345.678
"""Seconds that the clock of a second run is ahead: another year, month, weekday and hour."""

_SHOWN = 3


class Kind(Enum):
    """What follows for a plan. The value is the end of a sentence that says so."""

    SEEDED = "its numbers are the same in every run, so a plan has them whatever its own seed is"
    CHANCE = "no seed of a plan reaches its numbers"
    MACHINE = "its answer is that of this process or machine, and so are values that follow from it"


@dataclass(frozen=True)
class Reading:
    """One call.

    Attributes:
        kind: what follows for a plan.
        what: the call, such as "os.cpu_count()".
        file: the path of the code that made it.
        line: its line.
    """

    kind: Kind
    what: str
    file: str
    line: Line


@dataclass
class Watch:
    """What one run of a model's code asked for.

    Attributes:
        ahead: seconds that the clock is ahead for the model's code.
        readings: the calls, in order, by kind, function and line.
        is_within: whether such a call runs, whose own calls say nothing new.
    """

    ahead: float = 0.0
    readings: dict[tuple[Kind, str, Line], Reading] = field(default_factory=dict)
    is_within: bool = False

    @contextmanager
    def noted(self, kind: Kind, function: str, arguments: str = "") -> Iterator[None]:
        """Notes a call that runs in the body, if it is none of the standard library's own.

        Args:
            kind: what follows for a plan.
            function: its name.
            arguments: its arguments, as text.
        """
        if self.is_within:
            yield
            return
        if (caller := _caller()) is not None:
            file, line = caller
            found = Reading(kind, f"{function}({arguments})", file, line)
            self.readings.setdefault((kind, function, line), found)
        self.is_within = True
        try:
            yield
        finally:
            self.is_within = False

    def moves_the_clock(self) -> bool:
        """Whether the caller's caller gets another time: the user's own code does."""
        if not self.ahead:
            return False
        caller = _caller()
        return caller is not None and not caller[0].startswith(PACKAGES)

    def notes(self, files: Collection[str] = ()) -> Iterator[str]:
        """What the user should know, as sentences.

        Args:
            files: files of installed packages that count as the model's code too. The user's own
                code always counts; other packages ask for the machine for reasons of their own.
        """
        places: dict[tuple[Kind, str], list[str]] = {}
        for one in self.readings.values():
            if one.file in files or not one.file.startswith(PACKAGES):
                places.setdefault((one.kind, one.what), []).append(str(one.line))
        for (kind, what), lines in places.items():
            rest = len(lines) - _SHOWN
            shown = ", ".join(lines[:_SHOWN]) + (f" and {rest} more lines" if rest > 0 else "")
            yield f"the code calls {what} at {shown}: {kind.value}"


def _caller() -> tuple[str, Line] | None:
    """The file and line, outside these modules, that ask; None for the standard library's own."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file.startswith("<frozen importlib"):
            # An import, in a package that passes calls on.
            return None
        if not file.startswith((_HERE, "<frozen", "<string>", *_PASSED)):
            is_stdlib = file.startswith(STDLIB) and not file.startswith(PACKAGES)
            if is_stdlib or code.co_name == "__hash__":
                # The hash of a key of a dictionary, say, is no value of the model.
                return None
            return file, Line.of(file, frame.f_lineno, code.co_qualname)
        frame = frame.f_back
    return None
