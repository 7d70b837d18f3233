"""The errors of this package, with messages that name the field, the value and the remedy.

The tree of errors:

- PlanError (a ValueError): the plan is wrong; `violations` lists everything found.
- MissingPackageError (an ImportError): an optional package is needed.
- CheckpointError (a RuntimeError): a file of weights cannot be read any more.
- BackendError (a RuntimeError): a backend that was asked for cannot run here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from typing import Any

_MAX_SHOWN = 100


@dataclass(frozen=True)
class Violation:
    """One fault of a plan: the field, the value found, and what would be right.

    Args:
        tensor: name of the tensor, or "" where the plan itself is wrong.
        field: field of the plan or tensor, as spelled in plan files.
        message: the value found and what would be right, as one sentence.
        index: position of the tensor in the plan, if it is known.
        line: line of the plan file, counted from 1, if the plan came from one.
    """

    tensor: str
    field: str
    message: str
    index: int | None = None
    line: int | None = dataclass_field(default=None, kw_only=True)

    def __str__(self) -> str:
        place = "" if self.line is None else f"line {self.line}: "
        where = f"tensor {self.tensor!r}: " if self.tensor else ""
        return f"{place}{where}{self.field}: {self.message}"

    @property
    def path(self) -> str:
        """The field as a path into the plan message, such as `tensors[2].shape`."""
        return self.field if self.index is None else f"tensors[{self.index}].{self.field}"


class PlanError(ValueError):
    """The plan is wrong, and no value was computed. The text shows the first hundred violations.

    Attributes:
        violations: everything found.
        heading: a line before the violations, such as the server that refuses the plan; "" for
            none.
    """

    def __init__(self, violations: Iterable[Violation], *, heading: str = "") -> None:
        # Once: what is wrong with an argument for all tensors is found at each of them.
        self.violations = tuple(dict.fromkeys(violations))
        self.heading = heading
        lines = [heading] if heading else []
        lines += [str(violation) for violation in self.violations[:_MAX_SHOWN]]
        if len(self.violations) > _MAX_SHOWN:
            lines.append(f"... and {len(self.violations) - _MAX_SHOWN} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), heading=self.heading), (self.violations,)


class MissingPackageError(ImportError):
    """An optional package is not installed; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed: pip install 'initserve[{extra}]'"
        )
        self._made_of = (package, extra, purpose)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of, self.__dict__


class CheckpointError(RuntimeError):
    """A checkpoint, or the folder of checkpoints, cannot be read, or has changed."""


class BackendError(RuntimeError):
    """The backend that was asked for cannot run on this machine."""
