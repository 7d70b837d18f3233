"""The report of a verification: the tensors that agree with the plan, and the mismatches."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from initcore import Fingerprint
from initcore.plan import FrozenDict
from initcore.show import counted, printable

from initclient._exceptions import InitserveError

Kind: TypeAlias = Literal["values", "missing", "unexpected", "shape", "dtype"]
"""Other bits; only in the plan; not in the plan; another shape; another element type."""

Bounds: TypeAlias = tuple[tuple[int, int], ...]

_SHOWN = 20
_SHOWN_RANKS = 4


@dataclass(frozen=True)
class WrongPart:
    """A part of a tensor that differs from the plan, and the process that holds it.

    Attributes:
        rank: the global rank of the process; None if there is only one process.
        bounds: (start, stop) of the part in each dimension of the whole tensor.
        elements: how many of its elements differ; None if that is not known.
        first: position in the whole tensor of the first one; None if not known.
        device: the device of the process that holds it, if that is known.
    """

    rank: int | None
    bounds: Bounds
    elements: int | None = None
    first: tuple[int, ...] | None = None
    device: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        where = "" if self.rank is None else f"rank {self.rank}"
        if self.device:
            where += f" {self.device}" if where else self.device
        if self.bounds and where:
            where += " [" + ", ".join(f"{start}:{stop}" for start, stop in self.bounds) + "]"
        if self.elements is None:
            return where
        count = math.prod(stop - start for start, stop in self.bounds)
        text = f"{self.elements} of {count} elements differ"
        if self.first is not None:
            text += f", the first at {list(self.first)}"
        return f"{where}: {text}" if where else text


@dataclass(frozen=True)
class Mismatch:
    """A tensor that differs from the plan.

    Attributes:
        name: its name.
        kind: "values", "missing" (only in the plan), "unexpected" (not in the plan), "shape"
            or "dtype".
        message: the difference, as a sentence that begins with a verb.
        parts: for "values": the wrong parts, as far as they are known.
    """

    name: str
    kind: Kind
    message: str
    parts: tuple[WrongPart, ...] = ()

    def __str__(self) -> str:
        return f"{printable(self.name)}: {printable(self.message)}"


@dataclass(frozen=True)
class Verification:
    """The report of `verify`.

    Attributes:
        plan_digest: digest of the plan.
        agreed: names of the tensors that agree, in the plan's order.
        fingerprints: the fingerprint of every compared tensor, by name.
        mismatches: the tensors that do not agree.
        left_out: names that were not compared: tensors of the plan that a partial model does not
            have, buffers that the plan does not have, and ignored names.
        remark: what else the file says that explains mismatches, such as another seed; "" if
            there is nothing.
    """

    plan_digest: str
    agreed: tuple[str, ...]
    fingerprints: Mapping[str, Fingerprint] = field(repr=False)
    mismatches: tuple[Mismatch, ...] = ()
    left_out: tuple[str, ...] = ()
    remark: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        frozen = FrozenDict(self.fingerprints)
        object.__setattr__(self, "fingerprints", frozen)

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return not self.mismatches

    def __str__(self) -> str:
        compared = len(self.agreed) + len(self.mismatches)
        count = counted(compared, "tensor")
        if self.ok:
            verb = "agrees" if compared == 1 else "agree"
            return f"{count} {verb} with plan {self.plan_digest}"
        verb = "differs" if len(self.mismatches) == 1 else "differ"
        lines = [f"{len(self.mismatches)} of {count} {verb} from plan {self.plan_digest}"]
        if self.remark:
            lines.append(f"  {printable(self.remark)}")
        lines += [f"  {mismatch}" for mismatch in self.mismatches[:_SHOWN]]
        if len(self.mismatches) > _SHOWN:
            lines.append(f"  ... and {len(self.mismatches) - _SHOWN} more")
        return "\n".join(lines)

    def checked(self) -> Verification:
        """This report, if everything agrees.

        Raises:
            VerificationError: if not.
        """
        if self.mismatches:
            raise VerificationError(self)
        return self


def missing(name: str) -> Mismatch:
    """A tensor that only the plan has."""
    return Mismatch(name, "missing", "is in the plan and not there")


def unexpected(name: str) -> Mismatch:
    """A tensor that the plan does not have."""
    return Mismatch(name, "unexpected", "is there and not in the plan")


def other_shape(name: str, found: Iterable[int], planned: Iterable[int]) -> Mismatch:
    """A tensor of another shape."""
    text = f"has the shape {list(found)}, and {list(planned)} in the plan"
    return Mismatch(name, "shape", text)


def other_dtype(name: str, found: str, planned: str) -> Mismatch:
    """A tensor of another element type."""
    return Mismatch(name, "dtype", f"has elements of type {found}, and {planned} in the plan")


def other_values(
    name: str, found: Fingerprint | None, expected: Fingerprint, parts: Iterable[WrongPart] = ()
) -> Mismatch:
    """A tensor of other bits; `found` is None if its copies differ from each other."""
    wrong = tuple(parts)
    has = "copies that differ" if found is None else f"the fingerprint {found}"
    message = f"has {has}, not the plan's {expected}"
    shown = [text for text in map(str, wrong[:_SHOWN_RANKS]) if text]
    if len(wrong) > _SHOWN_RANKS:
        shown.append(f"{len(wrong) - _SHOWN_RANKS} more")
    if shown:
        message += f" ({'; '.join(shown)})"
    return Mismatch(name, "values", message, wrong)


def is_ignored(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the globs, in which `*` also matches dots, matches the whole name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def globs(ignore: str | Iterable[str]) -> tuple[str, ...]:
    """The globs of `ignore=`."""
    return (ignore,) if isinstance(ignore, str) else tuple(ignore)


def without_effect(ignore: Iterable[str], names: Iterable[str]) -> list[str]:
    """Warnings about the globs that match none of the names."""
    known = list(names)
    return [
        f"ignore {pattern!r} has no effect: it matches no name of the plan, nor one that is there"
        for pattern in ignore
        if not any(fnmatchcase(name, pattern) for name in known)
    ]


def require_some(
    report: Verification,
    planned: Collection[str],
    ignore: Iterable[str],
    *,
    may_hold_none: bool = False,
) -> None:
    """Refuses a report of no tensor, which agrees with everything.

    Args:
        report: the report.
        planned: the plan's tensors.
        ignore: globs for names that were not compared.
        may_hold_none: whether what was compared may have no tensor of the plan.

    Raises:
        ValueError: if the plan has tensors, and none was compared.
    """
    if report.agreed or report.mismatches or not planned:
        return
    patterns = tuple(ignore)
    if all(is_ignored(name, patterns) for name in planned):
        shown = ", ".join(map(repr, patterns))
        why = f"ignore ({shown}) leaves out every tensor of the plan; give narrower globs"
    elif may_hold_none:
        return
    else:
        why = "no tensor of the plan is there that ignore does not leave out, and partial allows it"
    raise ValueError(f"nothing was compared: {why}")


class VerificationError(InitserveError):
    """A file, arrays or a model do not hold the plan's weights.

    Attributes:
        report: the tensors that agree, and the mismatches.
    """

    def __init__(self, report: Verification) -> None:
        super().__init__(str(report))
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)
