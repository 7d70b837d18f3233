"""The findings of one process, and the report that all processes make of them together.

Each process compares its own parts of the tensors. The results are then summed over all
processes, one row of integers a tensor, so that every process returns the same report. How
processes communicate is left to the framework: see `Group`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from initcore import Entry, Fingerprint, Plan
from initcore.dtypes import canonical_name
from initcore.file import Progress

from initclient._checking.comparison import Compared, Comparison
from initclient._checking.report import (
    Bounds,
    Mismatch,
    Verification,
    WrongPart,
    is_ignored,
    other_dtype,
    other_shape,
    require_some,
    unexpected,
    without_effect,
)
from initclient._checking.verdict import Row, verdict
from initclient._exceptions import InitserveError
from initclient._plan import Region, kept, pinned, wanted_regions, warn_about
from initclient._source import Request, Source, make_request

_T = TypeVar("_T")


class Group(Protocol):
    """The processes that hold a model together, with the two collectives: gather and add.

    Attributes:
        rank: this process's rank in the group.
        ranks: the numbers that reports call the group's processes, in its order.
        is_alone: whether this is the only process.
    """

    @property
    def rank(self) -> int: ...
    @property
    def ranks(self) -> tuple[int, ...]: ...
    @property
    def is_alone(self) -> bool: ...

    def gather(self, value: _T) -> list[_T]:
        """The values of all processes, in the group's order. A collective call."""
        ...

    def add(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """The sums of all processes' integers, element by element. A collective call."""
        ...


@dataclass
class Findings:
    """The results of this process, for its own parts.

    Attributes:
        request: the whole plan and its source; None until it is known.
        error: the error that kept this process from comparing its parts, if any.
        mismatches: differences in name, shape or element type.
        left_out: names that were not compared.
        rows: the sums for each tensor of the plan.
        parts: the compared parts of each tensor.
    """

    request: Request | None = None
    error: Exception | None = None
    mismatches: list[Mismatch] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    parts: dict[str, list[Compared]] = field(default_factory=dict)
    _ignore: tuple[str, ...] = ()
    _whole: dict[str, Fingerprint] | None = None

    def begin(self, plan: Plan, source: Source, ignore: tuple[str, ...]) -> None:
        """Notes the plan, whose slices do not count, and leaves out ignored names.

        Args:
            plan: the plan.
            source: the source of its values.
            ignore: globs for names that are not compared.
        """
        tensors = {name: replace(tensor, slices=None) for name, tensor in plan.tensors.items()}
        self.request = make_request(replace(plan, tensors=tensors), None, source)
        self.left_out = [name for name in tensors if is_ignored(name, ignore)]
        self.rows = {name: Row() for name in tensors}
        self._ignore = ignore

    def is_comparable(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: Any,
        *,
        fits: Callable[[tuple[int, ...]], bool] | None = None,
        is_buffer: bool = False,
    ) -> bool:
        """Whether a tensor that this process has is compared; notes a mismatch that keeps it out.

        Args:
            name: its name in the plan.
            shape: its global shape.
            dtype: its element type, of any library.
            fits: whether a planned shape is its own; None means an equal one.
            is_buffer: whether it is left out if the plan does not have it.
        """
        assert self.request is not None
        plan = self.request.layout.plan
        tensor = plan.tensors.get(name)
        is_unplanned = tensor is None and (is_buffer or name in kept(plan))
        if is_unplanned or is_ignored(name, self._ignore):
            self.left_out.append(name)
            return False
        if tensor is None:
            self.mismatches.append(unexpected(name))
        elif not (tensor.shape == shape if fits is None else fits(tensor.shape)):
            self.mismatches.append(other_shape(name, shape, tensor.shape))
        elif tensor.dtype != (found := canonical_name(dtype)):
            self.mismatches.append(other_dtype(name, found, tensor.dtype))
        else:
            self.rows[name].present = 1
            return True
        return False

    def comparison(
        self, parts: Iterable[tuple[str, Bounds]], progress: Progress | None
    ) -> tuple[Comparison, Sequence[Entry]]:
        """The comparison of parts of the plan's tensors, and the entry of each part.

        Args:
            parts: names and bounds.
            progress: called with the bytes compared and in all.
        """
        assert self.request is not None
        plan = self.request.layout.plan
        # Parts of a tensor need unique names, and keep the tensor's values.
        tensors = {
            f"{name}{list(bounds)} {place}": replace(
                pinned(plan.tensors[name], name), slices=bounds
            )
            for place, (name, bounds) in enumerate(parts)
        }
        request = self.request.of_plan(Plan(tensors, plan.seed))
        return Comparison(request, progress), request.layout.entries

    def add(self, name: str, part: Compared) -> None:
        """Adds a compared part of a tensor."""
        self.parts.setdefault(name, []).append(part)

    def finish(self, group: Group) -> None:
        """Fetches the plan's fingerprints where a server has them, and adds up the parts."""
        assert self.request is not None
        if self.request.service is not None:
            if group.is_alone:
                self._fetch_expected(list(self.parts))
            elif group.rank == 0:
                # Without ignored tensors, whose checkpoints the server may lack.
                wanted = wanted_regions(self.request.layout)
                wanted = [region for region in wanted if region.name not in self.left_out]
                fetched = _fingerprints(self.request, wanted)
                self._whole = {r.name: found for r, found in zip(wanted, fetched, strict=True)}
        for name, parts in self.parts.items():
            for part in parts:
                self.rows[name].add(part)

    def together(self, group: Group, *, partial: bool, local: bool) -> Verification:
        """The report of all processes. A collective call, also after an error.

        Args:
            group: the processes.
            partial: whether tensors of the plan may be missing.
            local: whether this process compared only its own parts, which need not be everything.

        Raises:
            Exception: the process's own error, if it has one.
            ValueError: if all tensors of the plan are ignored.
            InitserveError: if another process has an error or another plan.
        """
        # If this process has an error, the others learn of it here.
        summaries = group.gather(self._summary())
        self._raise_together(summaries, group)
        assert self.request is not None
        sums = group.add([row.numbers() for row in self.rows.values()])
        left_out = [name for one in summaries for name in one.left_out]
        report = verdict(
            self.request.layout,
            {name: Row.of(numbers) for name, numbers in zip(self.rows, sums, strict=True)},
            summaries[0].whole,
            [mismatch for one in summaries for mismatch in one.mismatches],
            partial=partial,
            local=local,
            left_out=left_out,
            locate=lambda names: self._located(names, group),
        )
        # The processes of a group may hold none of the plan, as an empty pipeline stage does.
        require_some(report, self.rows, self._ignore, may_hold_none=True)
        # Beyond its own parts, another process may have what a glob is for.
        if not local and group.rank == 0:
            warn_about(without_effect(self._ignore, left_out))
        return report

    def _summary(self) -> _Summary:
        error = None if self.error is None else f"{type(self.error).__name__}: {self.error}"
        digest = "" if self.request is None else self.request.layout.digest
        return _Summary(error, digest, self.mismatches, self.left_out, self._whole)

    def _fetch_expected(self, names: Sequence[str]) -> None:
        """Fetches the plan's fingerprints of this process's parts from a server."""
        assert self.request is not None
        mine = [(name, part) for name in names for part in self.parts.get(name, ())]
        fetched = _fingerprints(self.request, [Region(name, part.bounds) for name, part in mine])
        for (_, part), expected in zip(mine, fetched, strict=True):
            part.expected = expected

    def _raise_together(self, summaries: Sequence[_Summary], group: Group) -> None:
        if self.error is not None:
            raise self.error
        for rank, one in zip(group.ranks, summaries, strict=True):
            if one.error is not None:
                raise InitserveError(f"rank {rank} could not verify its part: {one.error}")
        first = summaries[0].digest
        for rank, one in zip(group.ranks, summaries, strict=True):
            if one.digest != first:
                raise InitserveError(
                    f"rank {rank} verifies plan {one.digest}, and rank {group.ranks[0]} plan "
                    f"{first}; give the same plan and seed on every process"
                )

    def _located(self, names: Sequence[str], group: Group) -> dict[str, list[WrongPart]]:
        """The wrong parts of these tensors, with the processes that hold them. Collective."""
        known = True
        if self.request is not None and self.request.service is not None and not group.is_alone:
            try:
                self._fetch_expected(names)
            except Exception:
                # The report is complete without the places of the differences.
                known = False
        rank = None if group.is_alone else group.ranks[group.rank]
        mine = [
            (
                name,
                WrongPart(
                    rank, part.bounds, part.differing or None, part.first, device=part.device
                ),
            )
            for name in names
            for part in self.parts.get(name, ())
            if known and part.found != part.expected
        ]
        located: dict[str, list[WrongPart]] = {}
        for theirs in group.gather(mine):
            for name, wrong in theirs:
                located.setdefault(name, []).append(wrong)
        return located


@dataclass
class _Summary:
    """The message from each process to all others, before the sums.

    Attributes:
        error: the error that kept it from comparing its parts, as text; None without one.
        digest: the digest of its plan.
        mismatches: its mismatches in name, shape or element type.
        left_out: names that it did not compare.
        whole: the plan's fingerprints, if it fetched them.
    """

    error: str | None
    digest: str
    mismatches: list[Mismatch]
    left_out: list[str]
    whole: dict[str, Fingerprint] | None


def _fingerprints(request: Request, regions: Sequence[Region]) -> list[Fingerprint]:
    """The plan's fingerprints of regions, from the request's servers."""
    from initclient._transport import blocking

    return blocking.fingerprints(request, regions)
