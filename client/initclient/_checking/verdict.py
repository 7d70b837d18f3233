"""Turns the sums over all processes into the report that each of them returns.

Lanes of fingerprints are added as halves of 32 bits in 64-bit integers. So the sums do not wrap,
and for a tensor with c copies they are exact multiples of c: a division removes the copies, and
no process has to know which copy counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from initcore import Fingerprint, Layout

from initclient._checking.comparison import Compared
from initclient._checking.report import Mismatch, Verification, WrongPart, missing, other_values
from initclient._exceptions import InitserveError

_HALF = 1 << 32
_ZERO = (0, 0, 0, 0)


@dataclass
class Row:
    """The results for one tensor, of one process or summed over all.

    Attributes:
        present: number of processes that have it, empty shards included.
        held: number of compared elements.
        differing: how many of them differ, if known.
        found: the sum of the fingerprints of the compared parts, in halves of lanes.
        expected: the sum of the plan's fingerprints of the same parts, if known.
    """

    present: int = 0
    held: int = 0
    differing: int = 0
    found: tuple[int, ...] = field(default=_ZERO)
    expected: tuple[int, ...] = field(default=_ZERO)

    def add(self, part: Compared) -> None:
        """Adds a part."""
        self.held += part.count
        self.differing += part.differing
        self.found = _sum(self.found, part.found)
        self.expected = _sum(self.expected, part.expected)

    def numbers(self) -> list[int]:
        """The row as integers, to be added to those of other processes."""
        return [self.present, self.held, self.differing, *self.found, *self.expected]

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Row:
        """The row of these integers."""
        present, held, differing, *halves = numbers
        return cls(present, held, differing, tuple(halves[:4]), tuple(halves[4:]))

    def one(self, name: str, count: int) -> Fingerprint:
        """The fingerprint of one copy of a whole tensor, without a plan's values.

        Args:
            name: the tensor's name.
            count: the number of its elements.

        Raises:
            InitserveError: if the processes hold a part of it, or copies that differ.
        """
        copies, rest = divmod(self.held, max(count, 1))
        if rest or (count and not copies):
            raise InitserveError(str(_incomplete(name, self.held, count)))
        found = _one_copy(self.found, copies or 1)
        if found is None:
            raise InitserveError(f"{name}: has copies that differ")
        return found


def _sum(halves: tuple[int, ...], more: Fingerprint) -> tuple[int, ...]:
    split = [half for lane in more.lanes for half in (lane % _HALF, lane // _HALF)]
    return tuple(a + b for a, b in zip(halves, split, strict=True))


def _one_copy(halves: tuple[int, ...], copies: int) -> Fingerprint | None:
    """The fingerprint of one copy, from the sum over `copies`; None if the copies differ."""
    if any(half % copies for half in halves):
        return None
    low0, high0, low1, high1 = (half // copies for half in halves)
    return Fingerprint((low0 + _HALF * high0, low1 + _HALF * high1))


def verdict(
    layout: Layout,
    rows: Mapping[str, Row],
    from_server: Mapping[str, Fingerprint] | None,
    findings: Sequence[Mismatch],
    *,
    partial: bool,
    local: bool,
    left_out: Sequence[str],
    locate: Callable[[list[str]], Mapping[str, Sequence[WrongPart]]],
) -> Verification:
    """The report.

    Args:
        layout: the layout of the plan's file.
        rows: the summed results, by the plan's names.
        from_server: the plan's fingerprints, if a server sent them; otherwise each process has
            compared its parts with values that it made.
        findings: mismatches in name, shape or element type; repeated ones are reported once.
        partial: whether tensors of the plan may be missing.
        local: whether this process compared only its own parts, which need not be everything.
        left_out: names that were not compared.
        locate: called for the wrong parts of tensors that differ, if there are any.
    """
    wrong = {finding.name: finding for finding in reversed(findings)}
    found: dict[str, Fingerprint] = {}
    differing: dict[str, tuple[Fingerprint | None, Fingerprint]] = {}
    compared, skipped = [], list(left_out)
    for entry in layout.entries:
        name, count = entry.tensor.name, entry.tensor.count
        row = rows[name]
        if name in wrong or name in left_out:
            continue
        if not row.present:
            if partial:
                skipped.append(name)
            else:
                wrong[name] = missing(name)
            continue
        compared.append(name)
        copies, rest = divmod(row.held, max(count, 1))
        is_part = local and row.held < count
        if is_part:
            copies = 1
        elif rest or (count and not copies):
            wrong[name] = _incomplete(name, row.held, count)
            continue
        one = _one_copy(row.found, copies or 1)
        if one is not None and not is_part:
            found[name] = one
        if from_server is None:
            expected = _one_copy(row.expected, copies or 1)
        else:
            expected = from_server[name]
        if one != expected or row.differing:
            differing[name] = one, expected or Fingerprint()
    if differing:
        parts = locate(list(differing))
        for name, (one, expected) in differing.items():
            wrong[name] = other_values(name, one, expected, parts.get(name, ()))
    order = {entry.tensor.name: place for place, entry in enumerate(layout.entries)}
    return Verification(
        layout.digest,
        tuple(name for name in compared if name not in wrong),
        found,
        tuple(sorted(wrong.values(), key=lambda m: order.get(m.name, math.inf))),
        tuple(dict.fromkeys(skipped)),
    )


def _incomplete(name: str, held: int, count: int) -> Mismatch:
    text = (
        f"has {held} elements on all processes together, which is no whole number of copies of "
        f"{count}; does a process outside the group hold a part of it?"
    )
    return Mismatch(name, "values", text)
