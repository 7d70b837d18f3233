"""The plan: its tensors, how each is drawn, and which part of it is wanted.

Plans are plain values. Their constructors do not validate: `initcore.resolve.resolve` reports
everything that is wrong with a plan, all at once.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import EllipsisType
from typing import Any

from initcore.dtypes import DTypeName, canonical_name
from initcore.errors import PlanError, Violation
from initcore.plan.frozen import FrozenDict
from initcore.plan.plain_values import PLAIN, plain_int, plain_ints
from initcore.plan.schemes import ARGUMENTS, composed_shape

Bounds = tuple[int | None, int | None]
"""(start, stop) of one dimension; None stands for its beginning or end."""

Index = Sequence[slice | Bounds | EllipsisType] | slice
"""What `Plan.shard` takes for one tensor: a slice for each dimension."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One tensor of a plan.

    Arguments of the scheme that are None take the scheme's default. The builders
    (`kaiming_normal`, `zeros`, ...) make tensors with torch's argument names and
    defaults; most people never call this class.

    Attributes:
        scheme: one of `initcore.plan.schemes.SCHEMES`.
        shape: shape of the whole (global) tensor.
        dtype: element type, by its safetensors name; any common spelling is accepted.
        stream: name of the random stream; None means the tensor's name.
        seed: seed of this tensor alone; None means the plan's.
        slices: (start, stop) for each dimension of the wanted part; None means everything.
        zero_rows: positions of the first dimension that are zero, in place of the scheme's values.
        parts: what a composed tensor is made of, as pairs of name and tensor; a mapping will do.
    """

    scheme: str
    shape: tuple[int, ...]
    dtype: DTypeName = "F32"
    stream: str | None = None
    seed: int | None = None
    slices: tuple[Bounds, ...] | None = None
    a: float | None = None
    b: float | None = None
    mean: float | None = None
    std: float | None = None
    val: float | int | None = None
    gain: float | None = None
    sparsity: float | None = None
    groups: int | None = None
    mode: str | None = None
    nonlinearity: str | None = None
    scale: float | None = None
    distribution: str | None = None
    layout: str | None = None
    batch_axes: tuple[int, ...] | None = None
    relative: bool | None = None
    zero_rows: tuple[int, ...] | None = None
    parts: tuple[tuple[str, Tensor], ...] | None = None
    axis: int | None = None
    axes: tuple[int, ...] | None = None
    checkpoint: str | None = None
    source: str | None = None
    sha256: str | None = None
    function: str | None = None
    values: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        for (name, plain), value in zip(PLAIN.items(), _plain_values(self), strict=True):
            # Most fields of most tensors are left out, and a plan may have a million tensors.
            if value is not None:
                made = plain(value)
                if made is not value:
                    set_field(self, name, made)
        if self.dtype is None or self.shape is None:
            set_field(self, "dtype", canonical_name(self.dtype))
            set_field(self, "shape", plain_ints(self.shape))
        if self.parts is not None and not self.shape:
            shapes = [getattr(part, "shape", ()) for _, part in self.parts]
            set_field(self, "shape", composed_shape(self.scheme, shapes, self.axis, self.axes))

    def given(self) -> dict[str, Any]:
        """The scheme's arguments that are not None, by name, in the wire contract's order."""
        pairs = zip(ARGUMENTS, _arguments(self), strict=True)
        return {name: value for name, value in pairs if value is not None}

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        mine, theirs = _fields(self), _fields(other)
        # 0.0 and -0.0 are other bits, and other digests.
        return mine == theirs and _signs(mine) == _signs(theirs)

    def __repr__(self) -> str:
        apart = ("parts", "values")
        shown = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name not in apart)
        inner = [f"{name}={value!r}" for name, value in shown if value is not None]
        if self.parts:
            inner.append(_some("part", [name for name, _ in self.parts]))
        if self.values is not None:
            inner.append(f"values={few(self.values)}")
        return f"Tensor({', '.join(inner)})"


def with_plain(tensor: Tensor, **plain: Any) -> Tensor:
    """The tensor with other values of some fields, which are plain already.

    A tenth of the cost of `dataclasses.replace`, which brings every field into its plain form.
    """
    other, its = object.__new__(type(tensor)), tensor.__dict__.copy()
    its.update(plain)
    object.__setattr__(other, "__dict__", its)
    return other


@dataclass(frozen=True)
class Plan:
    """Tensors by name, in the order of the file, and the seed they share.

    `plan["fc.bias"]` is the tensor of this name, `"fc.bias" in plan` says whether there is one,
    `len(plan)` is the number of tensors, and iteration yields their names. Plans are equal if
    their tensors, the order of these, and their seeds are; then their digests are equal too.

    Attributes:
        tensors: the tensors.
        seed: the seed.
        provenance: where the plan came from, as text by sorted key: the class of a recorded
            model, versions of libraries. No part of the digest, and not compared.

    Example:
        >>> from initcore import Plan, zeros
        >>> plan = Plan(seed=7, tensors={"fc.bias": zeros((4096,))})
        >>> list(plan.tensors)
        ['fc.bias']
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0
    provenance: Mapping[str, str] = field(default_factory=dict, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        # Sorted, because it goes into the headers of files, and a message's map has no order.
        by_key = sorted(self.provenance.items(), key=lambda item: str(item[0]))
        object.__setattr__(self, "provenance", FrozenDict(by_key))
        try:
            tensors = _Tensors(self.tensors)
        except (TypeError, ValueError) as error:
            kind = type(self.tensors).__name__
            message = f"the tensors of a plan are a {kind}; give a dict from names to tensors"
            raise TypeError(message) from error
        object.__setattr__(self, "tensors", tensors)
        object.__setattr__(self, "seed", plain_int(self.seed))

    def __repr__(self) -> str:
        return f"Plan(seed={self.seed!r}, {_some('tensor', list(self.tensors))})"

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self.tensors[name]
        except KeyError:
            raise KeyError(f"{name!r}: {_absent(name, self.tensors)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @cached_property
    def digest(self) -> str:
        """The plan's digest, 64 hexadecimal digits: two plans of one digest have the same file.

        Raises:
            PlanError: with everything that is wrong with the plan.
        """
        return _ABOVE["digest"](self)

    def to_yaml(self) -> str:
        """The text of the plan's file, as `dump_plan` writes it in YAML.

        Raises:
            PlanError: if a value does not fit the file's form.
        """
        return _ABOVE["to_yaml"](self)

    def with_seed(self, seed: int) -> Plan:
        """The same plan with another seed."""
        return Plan(self.tensors, seed, provenance=self.provenance)

    def select(self, names: Iterable[str]) -> Plan:
        """The plan of just these tensors, in this plan's order, with the same values.

        Args:
            names: their names, in any order.

        Raises:
            PlanError: if a name is not in the plan, or for one name as text, which is no list.
        """
        if isinstance(names, str):
            name = str(names)
            message = f"is the text {name!r}, which is no list of names; write select([{name!r}])"
            raise PlanError([Violation("", "names", message)])
        wanted = set(names)
        self._require(wanted)
        kept = {name: t for name, t in self.tensors.items() if name in wanted}
        return Plan(kept, self.seed, provenance=self.provenance)

    def shard(self, index: Mapping[str, Index]) -> Plan:
        """The plan that asks for a rectangular part of some tensors.

        Args:
            index: for each tensor to cut, a slice for each dimension as in NumPy:
                `{"fc.weight": (slice(0, 512), slice(None))}`. Dimensions left out at the
                end are taken whole, and so are tensors left out. Negative positions count
                from the end. Positions refer to the whole tensor, not to an earlier cut.

        Returns:
            A plan whose tensors hold those parts, each equal to that slice of the whole.

        Raises:
            PlanError: for a name that is not in the plan, a step, too many dimensions, or
                a position outside the tensor.
        """
        self._require(index)
        tensors = dict(self.tensors)
        for name, cut in index.items():
            bounds = _bounds(name, tensors[name].shape, cut)
            tensors[name] = with_plain(tensors[name], slices=bounds or None)
        return Plan(tensors, self.seed, provenance=self.provenance)

    def _require(self, names: Iterable[str]) -> None:
        missing = [name for name in names if name not in self.tensors]
        if missing:
            raise PlanError(
                Violation(name, "name", _absent(name, self.tensors)) for name in missing
            )


_SHOWN = 2
_SHOWN_VALUES = 4

_ABOVE: dict[str, Callable[[Plan], str]] = {}


def attach(*, digest: Callable[[Plan], str], to_yaml: Callable[[Plan], str]) -> None:
    """Gives plans their digest and their YAML, which rooms that import this one compute."""
    _ABOVE.update(digest=digest, to_yaml=to_yaml)


def _some(noun: str, names: Sequence[Any]) -> str:
    """A number and the first names, which stand for all: thousands of tensors are one line too."""
    shown = [repr(name if len(str(name)) <= 60 else f"{name[:57]}...") for name in names[:_SHOWN]]
    count = f"{len(names):,} {noun}{'' if len(names) == 1 else 's'}"
    more = ["..."] if len(names) > _SHOWN else []
    return f"{count}: {', '.join(shown + more)}" if names else count


def few(values: Any) -> str:
    """The `repr` of a value; of a long tuple, that of the first ones, which stand for all."""
    if not isinstance(values, tuple) or len(values) <= _SHOWN_VALUES:
        return repr(values)
    shown = ", ".join(map(repr, values[:_SHOWN_VALUES]))
    return f"({shown}, ... {len(values):,} in all)"


def _signs(values: Iterable[Any]) -> list[float]:
    """The signs of the zeros among numbers: 0 and 0.0 are the same bits."""
    found: list[float] = []
    for value in values:
        if isinstance(value, int | float) and not value:
            found.append(math.copysign(1.0, value))
        elif type(value) is tuple and 0.0 in value:
            found += _signs(value)
    return found


def _absent(name: Any, names: Iterable[Any]) -> str:
    text = "there is no tensor of this name in the plan"
    known = [known for known in names if isinstance(known, str)]
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"{text}; did you mean {close[0]!r}?" if close else text


class _Tensors(FrozenDict[str, Tensor]):
    """The tensors of a plan; in another order they are other tensors, since the file is another."""

    refusal = "the tensors of a plan do not change; make another Plan"

    def __eq__(self, other: object) -> bool:
        same = super().__eq__(other)
        if same is True and isinstance(other, _Tensors):
            return list(self) == list(other)
        return same

    __hash__ = FrozenDict.__hash__


def _bounds(name: str, shape: tuple[int, ...], index: Index) -> tuple[Bounds, ...]:
    cut: list[Any] = list(index) if isinstance(index, Sequence) else [index]
    if any(entry is Ellipsis for entry in cut):
        at = next(i for i, entry in enumerate(cut) if entry is Ellipsis)
        cut[at : at + 1] = [slice(None)] * (len(shape) - len(cut) + 1)
    if len(cut) > len(shape):
        message = f"{len(cut)} slices for the {len(shape)} dimensions of shape {list(shape)}"
        raise PlanError([Violation(name, "slices", message)])
    cut += [slice(None)] * (len(shape) - len(cut))
    return tuple(_bound(name, axis, shape[axis], entry) for axis, entry in enumerate(cut))


def _bound(name: str, axis: int, size: int, entry: Any) -> Bounds:
    if isinstance(entry, slice):
        start, stop, step = entry.start, entry.stop, entry.step
    elif isinstance(entry, tuple | list) and len(entry) == 2:
        (start, stop), step = entry, None
    else:
        message = f"axis {axis} has {entry!r}; give slice(start, stop) or (start, stop)"
        raise PlanError([Violation(name, "slices", message)])
    if step not in (None, 1):
        message = f"axis {axis} has step {step!r}; only contiguous slices, of step 1, are served"
        raise PlanError([Violation(name, "slices", message)])
    first = 0 if start is None else plain_int(start)
    last = size if stop is None else plain_int(stop)
    if not isinstance(first, int) or not isinstance(last, int):
        message = f"axis {axis} has {entry!r}; positions must be integers"
        raise PlanError([Violation(name, "slices", message)])
    if first < 0:
        first += size
    if last < 0:
        last += size
    if not 0 <= first <= last <= size:
        message = f"axis {axis} has {start}:{stop}, outside the {size} positions of the tensor"
        raise PlanError([Violation(name, "slices", message)])
    return first, last


# In C, and without the `__dict__` of each tensor, which the garbage collector would visit.
_plain_values = operator.attrgetter(*PLAIN)
_arguments = operator.attrgetter(*ARGUMENTS)
_fields = operator.attrgetter(*Tensor.__dataclass_fields__)
