"""diff: the differences between two plans, and whether they change values."""

from __future__ import annotations

import json
import struct
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from initcore import Layout
from initcore.plan import FrozenDict
from initcore.resolve import (
    Applied,
    Composed,
    Constant,
    Hadamard,
    Lattice,
    LiteralValues,
    Norm,
    Pretrained,
    Resolved,
    Sampled,
)
from initcore.show import counted, printable_lines
from initcore.stream import NormalDraw, UniformDraw

from initclient._plan import PlanLike, lay_out

Values: TypeAlias = Literal["same", "rounded", "other part", "different", "unknown"]
"""The same bits; the same samples in another element type; another slice of the same tensor;
other values; not known without making the values."""

_SHOWN = 4
_CONSTANT = ("constant", "ones", "zeros")


@dataclass(frozen=True)
class Changed:
    """A tensor that differs between two plans.

    Attributes:
        name: its name.
        fields: the fields that differ, as (left, right) by the field's name; None where a side
            lacks the field. Fields of parts are named as in "parts[q.weight].std". Empty if only
            the plans' seeds differ.
        values: whether the values differ.
    """

    name: str
    fields: Mapping[str, tuple[Any, Any]]
    values: Values


@dataclass(frozen=True)
class PlanDiff:
    """The differences between a left and a right plan.

    Attributes:
        digests: of the left and the right plan. Equal if and only if the files are equal.
        seeds: the plans' seeds.
        only_left: names that are only in the left plan.
        only_right: names that are only in the right plan.
        moved: pairs of a name that is only in the left plan and the name in the right plan of
            the tensor that holds the same values, whole or as a part; or the other way round.
        changed: the tensors in both plans that differ.
        alike: names of the tensors in both plans that do not differ, in the left plan's order.
        reordered: whether the tensors in both plans have another order.
    """

    digests: tuple[str, str]
    seeds: tuple[int, int]
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    changed: tuple[Changed, ...]
    alike: tuple[str, ...] = field(repr=False)
    reordered: bool = False

    @property
    def same(self) -> bool:
        """Whether the plans have the same file."""
        return self.digests[0] == self.digests[1]

    @property
    def same_values(self) -> bool:
        """Whether both plans have the same names, each with the same bits."""
        return (
            not self.only_left
            and not self.only_right
            and all(one.values == "same" for one in self.changed)
        )

    def to_dict(self) -> dict[str, Any]:
        """The differences as plain values, ready for JSON."""
        changed = [
            {
                "name": one.name,
                "values": one.values,
                "fields": {name: list(pair) for name, pair in one.fields.items()},
            }
            for one in self.changed
        ]
        form = {key: value for key, value in vars(self).items() if key != "changed"}
        form |= {"same": self.same, "same_values": self.same_values, "changed": changed}
        return dict(json.loads(json.dumps(form)))

    def __str__(self) -> str:
        return printable_lines("\n".join(_lines(self)))


def diff(left: PlanLike, right: PlanLike) -> PlanDiff:
    """Compares two plans: tensors, fields, seeds and values. Makes no value.

    Args:
        left: a Plan, a dict from names to tensors, or the path of a plan file.
        right: another one.

    Returns:
        The differences. Values count as the same where both plans resolve to the same draws of
        the same stream, even under different schemes: the resolved tensors are compared, not the
        files' text.

    Raises:
        PlanError: if a plan is wrong.

    Example:
        >>> import initclient as ic
        >>> found = ic.diff({"w": ic.normal((4, 4), std=0.02)}, {"w": ic.normal((4, 4), std=0.01)})
        >>> found.changed[0].fields["std"], found.changed[0].values
        ((0.02, 0.01), 'different')
    """
    a, b = (lay_out(plan, None, local=False) for plan in (left, right))
    ours = {entry.tensor.name: entry.tensor for entry in a.entries}
    theirs = {entry.tensor.name: entry.tensor for entry in b.entries}
    both = [name for name in ours if name in theirs]
    changed = []
    for name in both:
        fields = dict(_differences(a, b, ours[name], theirs[name]))
        values = _values(ours[name], theirs[name])
        if fields or values not in ("same", "unknown"):
            changed.append(Changed(name, FrozenDict(fields), values))
    different = {one.name for one in changed}
    only_left = [tensor for name, tensor in ours.items() if name not in theirs]
    only_right = [tensor for name, tensor in theirs.items() if name not in ours]
    return PlanDiff(
        digests=(a.digest, b.digest),
        seeds=(a.plan.seed, b.plan.seed),
        only_left=tuple(tensor.name for tensor in only_left),
        only_right=tuple(tensor.name for tensor in only_right),
        moved=tuple(_moved(only_left, only_right)),
        changed=tuple(changed),
        alike=tuple(name for name in both if name not in different),
        reordered=both != [name for name in theirs if name in ours],
    )


def _differences(
    a: Layout, b: Layout, left: Resolved, right: Resolved
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The fields that differ. A seed that is the plan's own is no field of a tensor."""
    ours, theirs = _fields(left, a.plan.seed), _fields(right, b.plan.seed)
    for name in dict.fromkeys([*ours, *theirs]):
        pair = ours.get(name), theirs.get(name)
        # As text: 0.0 == -0.0 and 1 == True, but they are not the same.
        if repr(pair[0]) != repr(pair[1]):
            yield name, pair


def _fields(tensor: Resolved, plan_seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "shape": tensor.shape,
        "slices": None if tensor.is_whole else tensor.bounds,
        "dtype": tensor.dtype.name,
        "scheme": tensor.scheme,
        "stream": tensor.stream_name if tensor.stream_name != tensor.name else None,
        "seed": tensor.seed if tensor.seed != plan_seed else None,
        "zero_rows": tensor.zero_rows or None,
        **tensor.arguments,
    }
    # Values that follow from the arguments and the shape, unless an argument has them.
    for name, value in asdict(tensor.parameters).items():
        if value is not None and not tensor.parts and tensor.scheme not in _CONSTANT:
            found.setdefault(name, value)
    if tensor.parts:
        found["parts"] = tuple(part.name for part in tensor.parts)
    for part in tensor.parts:
        inner = _fields(part, plan_seed)
        del inner["dtype"]
        found |= {f"parts[{part.name}].{name}": value for name, value in inner.items()}
    return {name: value for name, value in found.items() if value is not None}


def _values(left: Resolved, right: Resolved) -> Values:
    if left.shape != right.shape:
        return "different"
    if _drawn(left) != _drawn(right):
        return "unknown" if _is_loose(left) or _is_loose(right) else "different"
    if left.dtype.name != right.dtype.name:
        return "rounded"
    if left.bounds != right.bounds:
        return "other part"
    return "same"


def _is_loose(tensor: Resolved) -> bool:
    """Whether its values may equal those of a tensor with another scheme."""
    return isinstance(tensor.content, Composed | Applied | Norm | LiteralValues | Pretrained)


def _drawn(tensor: Resolved) -> Any:
    """A key that is equal for whole tensors of equal values, up to rounding to the type."""
    content, made = tensor.content, tensor.parameters
    key: Any
    if isinstance(content, Applied):
        # By their bits: clamp at 0.0 and at -0.0 give other zeros.
        numbers = _bits(content.a), _bits(content.b)
        key = (content.function, numbers, tuple(_drawn(part) for part in tensor.parts))
    elif isinstance(content, Composed | Norm):
        key = (content, tuple(_drawn(part) for part in tensor.parts))
    elif isinstance(content, Constant):
        key = ("constant", _bits(made.low))
    elif isinstance(content, Lattice):
        where = (content.first, content.step, content.count, content.block, content.blocks)
        key = ("lattice", where, _bits(made.low), _bits(made.high))
    elif isinstance(content, Hadamard):
        places = (content.outputs, content.inputs, content.taps, content.centre)
        key = ("hadamard", places, _bits(tensor.arguments["gain"]))
    elif isinstance(content, LiteralValues):
        # Its bytes are other numbers in another element type.
        key = (content, tensor.dtype.name)
    elif isinstance(content, Pretrained):
        key = content
    elif isinstance(content, Sampled) and _is_constant(content):
        key = ("constant", _bits(made.mean))
    else:
        key = (content, tensor.stream_name, tensor.seed)
    return key, tensor.zero_rows, tensor.shape


def _is_constant(content: Sampled) -> bool:
    draw = content.draw
    if isinstance(draw, NormalDraw):
        return draw.std == 0.0
    return isinstance(draw, UniformDraw) and draw.half == 0.0


def _bits(value: float | None) -> bytes:
    return b"" if value is None else struct.pack(">d", value)


def _moved(left: Sequence[Resolved], right: Sequence[Resolved]) -> Iterator[tuple[str, str]]:
    """Pairs of names whose tensors hold the same values; parts of composed tensors count."""
    places: dict[Any, deque[str]] = defaultdict(deque)
    for tensor in right:
        for inner in _with_parts(tensor):
            places[_key(inner)].append(tensor.name)
    left_over = []
    for tensor in left:
        found = places[_key(tensor)]
        if found:
            yield tensor.name, found.popleft()
        else:
            left_over.append(tensor)
    whole: dict[Any, deque[str]] = defaultdict(deque)
    for tensor in right:
        whole[_key(tensor)].append(tensor.name)
    for tensor in left_over:
        for part in tensor.parts:
            for inner in _with_parts(part):
                if whole[_key(inner)]:
                    yield tensor.name, whole[_key(inner)].popleft()


def _with_parts(tensor: Resolved) -> Iterator[Resolved]:
    yield tensor
    for part in tensor.parts:
        yield from _with_parts(part)


def _key(tensor: Resolved) -> Any:
    return tensor.shape, tensor.bounds, tensor.dtype.name, _drawn(tensor)


def _lines(found: PlanDiff) -> Iterator[str]:
    if found.same:
        count = counted(len(found.alike), "tensor")
        yield f"the plans are the same: {count}, digest {found.digests[0]}"
        return
    yield f"digests: {found.digests[0]} -> {found.digests[1]}"
    if found.seeds[0] != found.seeds[1]:
        yield f"seed: {found.seeds[0]} -> {found.seeds[1]}"
    moved = {name for pair in found.moved for name in pair}
    if gone := [name for name in found.only_left if name not in moved]:
        yield f"only in the left plan: {_some(gone)}"
    if new := [name for name in found.only_right if name not in moved]:
        yield f"only in the right plan: {_some(new)}"
    if found.moved:
        yield "the same values elsewhere:"
        yield from (f"  {_plain(old)} -> {_plain(new)}" for old, new in found.moved)
    groups: dict[tuple[str, str], list[str]] = {}
    for one in found.changed:
        pairs = (f"{name}: {_pair_text(*pair)}" for name, pair in one.fields.items())
        groups.setdefault(("; ".join(pairs), one.values), []).append(one.name)
    for (fields, values), names in groups.items():
        yield f"{_some(names)}: {_TEXTS[values]}"
        if fields:
            yield f"  {fields}"
    if found.reordered:
        yield "the tensors are in another order"
    counts = {
        "alike": found.alike,
        "changed": found.changed,
        "only left": found.only_left,
        "only right": found.only_right,
    }
    yield "tensors: " + ", ".join(f"{len(names)} {what}" for what, names in counts.items())
    if found.same_values:
        yield "every value is the same"


_TEXTS = {
    "same": "the same values",
    "rounded": "the same values up to rounding",
    "other part": "another part of the same values",
    "different": "other values",
    "unknown": "unknown whether the values differ; make them to compare",
}


def _some(names: Sequence[str]) -> str:
    shown = [_plain(name) for name in names[:_SHOWN]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _plain(text: str) -> str:
    # Names come from users and may contain control codes.
    return "".join(c if c.isprintable() else "?" for c in text)


def _pair_text(left: Any, right: Any) -> str:
    if isinstance(left, float) and isinstance(right, float) and f"{left:.6g}" != f"{right:.6g}":
        return f"{left:.6g} -> {right:.6g}"
    return f"{_text(left)} -> {_text(right)}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return _plain(str(list(value) if isinstance(value, tuple) else value))
