"""The plan: its tensors, how each is drawn, and which part of it is wanted.

Plans are plain values. Their constructors do not validate: `initcore.resolve.resolve` reports
everything that is wrong with a plan, all at once.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import EllipsisType
from typing import Any

from initcore.dtypes import DTypeName, canonical_name
from initcore.errors import PlanError, Violation
from initcore.plan.frozen import FrozenDict
from initcore.plan.schemes import ARGUMENTS, REALS, composed_shape

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
        # torch.nn.init takes tensors, people pass sizes: an int is a 1-D shape.
        set_field(self, "shape", _plain_ints(self.shape))
        set_field(self, "dtype", canonical_name(self.dtype))
        for name in ("scheme", "mode", "nonlinearity", "distribution", "layout", "function"):
            text = getattr(self, name)
            if isinstance(text, str):
                # torch takes "FAN_IN" too, and plan files write names in capitals.
                set_field(self, name, plain_text(text).lower())
        for name in ("stream", "checkpoint", "source", "sha256"):
            set_field(self, name, plain_text(getattr(self, name)))
        for name in REALS:
            set_field(self, name, _plain_number(getattr(self, name)))
        if isinstance(self.val, bool):
            # True and 1 are one plan.
            set_field(self, "val", int(self.val))
        set_field(self, "relative", _plain_number(self.relative))
        for name in ("seed", "groups", "axis"):
            set_field(self, name, _plain_int(getattr(self, name)))
        for name in ("batch_axes", "zero_rows", "axes"):
            if getattr(self, name) is not None:
                # An empty list means the default, and plan files cannot tell the two apart.
                set_field(self, name, _plain_ints(getattr(self, name)) or None)
        if self.parts is not None:
            parts: Any = self.parts
            parts = parts.items() if isinstance(parts, Mapping) else parts
            set_field(self, "parts", tuple((name, part) for name, part in parts) or None)
            if not self.shape:
                shapes = [getattr(part, "shape", ()) for _, part in self.parts or ()]
                made = composed_shape(self.scheme, shapes, self.axis, self.axes)
                set_field(self, "shape", made)
        if self.values is not None:
            # An empty list means that there is none, as on the wire.
            set_field(self, "values", _plain_numbers(self.values) or None)
        if isinstance(self.sha256, str):
            set_field(self, "sha256", self.sha256.lower())
        if self.slices is not None:
            bounds = tuple((_plain_int(start), _plain_int(stop)) for start, stop in self.slices)
            set_field(self, "slices", bounds or None)

    def given(self) -> dict[str, Any]:
        """The scheme's arguments that are not None, by name, in the wire contract's order."""
        values = self.__dict__
        return {name: values[name] for name in ARGUMENTS if values[name] is not None}

    def __repr__(self) -> str:
        apart = ("parts", "values")
        shown = ((f.name, getattr(self, f.name)) for f in fields(self) if f.name not in apart)
        inner = [f"{name}={value!r}" for name, value in shown if value is not None]
        if self.parts:
            inner.append(_some("part", [name for name, _ in self.parts]))
        if self.values is not None:
            inner.append(f"values={_few(self.values)}")
        return f"Tensor({', '.join(inner)})"


@dataclass(frozen=True)
class Plan:
    """Tensors by name, in the order of the file, and the seed they share.

    `plan["fc.bias"]` is the tensor of this name, `"fc.bias" in plan` says whether there is one,
    `len(plan)` is the number of tensors, and iteration yields their names. Plans are equal if
    their tensors, the order of these, and their seeds are; then their digests are equal too.

    Example:
        >>> from initcore import Plan, zeros
        >>> plan = Plan(seed=7, tensors={"fc.bias": zeros((4096,))})
        >>> list(plan.tensors)
        ['fc.bias']
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", _Tensors(self.tensors))
        object.__setattr__(self, "seed", _plain_int(self.seed))

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
        return Plan(self.tensors, seed)

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
        return Plan({name: t for name, t in self.tensors.items() if name in wanted}, self.seed)

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
            tensors[name] = replace(tensors[name], slices=_bounds(name, tensors[name].shape, cut))
        return Plan(tensors, self.seed)

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


def _few(values: Any) -> str:
    """The first values, which stand for all."""
    if not isinstance(values, tuple) or len(values) <= _SHOWN_VALUES:
        return repr(values)
    shown = ", ".join(map(repr, values[:_SHOWN_VALUES]))
    return f"({shown}, ... {len(values):,} in all)"


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
    first = 0 if start is None else _plain_int(start)
    last = size if stop is None else _plain_int(stop)
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


def _plain_int(value: Any) -> Any:
    """A Python int for any integer type (NumPy's too); anything else as it is, for validation."""
    if type(value) is int or isinstance(value, bool):
        return value
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return value


def _plain_ints(values: Any) -> tuple[Any, ...]:
    """Python ints for one integer, or several, of any library; others stay, for validation."""
    one = _plain_int(values)
    if isinstance(one, int):
        return (one,)
    try:
        return tuple(_plain_int(value) for value in values)
    except (TypeError, ValueError, RuntimeError):
        return (values,)


def _plain_number(value: Any) -> Any:
    """A Python number for a number of any library; anything else as it is, for validation."""
    if value is None or type(value) in (float, int, bool):
        return value
    number = value
    if hasattr(value, "item"):
        try:
            number = value.item()
        except (TypeError, ValueError, RuntimeError):
            return value
    if isinstance(number, int):
        return number
    try:
        # Integers stay integers: a double does not hold all of them.
        return operator.index(number)
    except TypeError:
        pass
    try:
        # numpy.longdouble, ml_dtypes' scalars, Decimal and Fraction; text has no __float__.
        return float(number) if hasattr(number, "__float__") else value
    except (TypeError, ValueError, OverflowError):
        return value


def _plain_numbers(values: Any) -> Any:
    """A tuple of Python numbers, row by row, of numbers of any library and nesting."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        values = [values]
    found: list[Any] = []
    for value in values:
        nested = isinstance(value, list | tuple) or bool(getattr(value, "shape", False))
        found += _plain_numbers(value) if nested else (_plain_number(value),)
    # True and 1 are one plan.
    return tuple(int(value) if isinstance(value, bool) else value for value in found)


def plain_text(value: Any) -> Any:
    """A Python str for text of any library (numpy.str_), or a member of an enum of texts."""
    return str.__str__(value) if isinstance(value, str) and type(value) is not str else value
