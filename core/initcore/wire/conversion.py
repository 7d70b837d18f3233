"""Conversion between plans and their protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from initserve.v1 import plan_pb2

from initcore.errors import PlanError, Violation
from initcore.plan import MAX_DIMENSIONS, MAX_LITERAL, Plan, Tensor, is_plain_entry, kind_key
from initcore.resolve import resolve

_MAX_VIOLATIONS = 10_000
_FIELDS = plan_pb2.Tensor.DESCRIPTOR.fields_by_name
_REPEATED = ("shape", "batch_axes", "axes")
_ENUMS = {name: field.enum_type for name, field in _FIELDS.items() if field.enum_type is not None}

SHORT = 256
"""Bytes of the longest message that is cached while a plan is read."""


def to_proto(plan: Plan) -> plan_pb2.Plan:
    """The message of a plan. Arguments that are not given are not in the message.

    Raises:
        PlanError: if a value does not fit its field, such as a scheme that is not known;
            `initcore.resolve.resolve` makes the other checks.
    """
    message = plan_pb2.Plan()
    violations = []
    try:
        message.seed = plan.seed
    except (TypeError, ValueError) as error:
        violations.append(Violation("", "seed", f"is {plan.seed!r}: {error}"))
    for word, value in plan.provenance.items():
        if not isinstance(word, str) or not isinstance(value, str):
            text = f"has {word!r}: {value!r}; keys and values are text"
            violations.append(Violation("", "provenance", text))
        elif not _is_unicode(word + value):
            text = f"has {word!r}: {value!r}, which is not Unicode"
            violations.append(Violation("", "provenance", text))
        else:
            message.provenance[word] = value
    # Models repeat their layers: a tensor that differs from an earlier one only in name and stream
    # is a copy of its message.
    kinds: dict[bytes, plan_pb2.Tensor] = {}
    for index, (name, tensor) in enumerate(plan.tensors.items()):
        made = message.tensors.add()
        key = kind_key(tensor) if is_plain_entry(name, tensor) else None
        if key is not None and key in kinds:
            made.CopyFrom(kinds[key])
            made.name = name
            if tensor.stream is not None:
                made.stream = tensor.stream
            continue
        wrong = _fill(made, name, tensor)
        violations += [Violation(name, field, text, index) for field, text in wrong]
        if key is not None and not wrong and tensor.stream is None and len(kinds) < _MAX_KINDS:
            kinds[key] = made
    if violations:
        raise PlanError(violations)
    return message


# Kinds of tensors whose messages are cached while a plan is written; models have a few.
_MAX_KINDS = 4096


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fill(message: plan_pb2.Tensor, name: str, tensor: Tensor) -> list[tuple[str, str]]:
    """Sets a message's fields; the values that do not fit, as field and text."""
    wrong = []
    for field, value in _wire_fields(name, tensor):
        if field == "parts":
            for number, (part_name, part) in enumerate(value):
                if isinstance(part, Tensor):
                    found = _fill(message.parts.add(), part_name, part)
                    wrong += [(f"parts[{number}].{inner}", text) for inner, text in found]
                else:
                    wrong.append((f"parts[{number}]", f"is {part!r}; make it with a builder"))
            continue
        try:
            _set(message, field, value)
        except (TypeError, ValueError, OverflowError) as error:
            wrong.append((field, f"is {value!r}: {error}"))
    return wrong


def _wire_fields(name: str, tensor: Tensor) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = [
        ("name", name),
        ("shape", tensor.shape),
        ("dtype", tensor.dtype),
        ("scheme", tensor.scheme),
        ("stream", tensor.stream),
        ("seed", tensor.seed),
        ("slices", tensor.slices),
        ("zero_rows", tensor.zero_rows),
    ]
    pairs += tensor.given().items()
    return [(field, value) for field, value in pairs if value is not None]


def _set(message: plan_pb2.Tensor, field: str, value: Any) -> None:
    descriptor = _FIELDS[field]
    if field == "slices":
        for start, stop in value:
            message.slices.add(start=start, stop=stop)
    elif descriptor.enum_type is not None:
        number = descriptor.enum_type.values_by_name.get(str(value).upper())
        if number is None:
            raise ValueError("not one of the known names")
        setattr(message, field, number.number)
    elif isinstance(value, tuple):
        getattr(message, field).extend(value)
    else:
        setattr(message, field, value)


def from_proto(message: plan_pb2.Plan) -> Plan:
    """The plan of a message.

    Raises:
        PlanError: like `plan_of`.
    """
    items = map(Item.of, message.tensors)
    return plan_of(message.seed, items, provenance=dict(message.provenance))


class Item(NamedTuple):
    """A tensor's message in parts, so that the server can read large plans piece by piece.

    Attributes:
        name: the tensor's name.
        rest: the message without name and parts, as bytes.
        parts: its parts.
    """

    name: str
    rest: bytes
    parts: Sequence[Item] = ()

    @classmethod
    def of(cls, message: plan_pb2.Tensor) -> Item:
        """The item of a whole message."""
        rest = plan_pb2.Tensor()
        rest.CopyFrom(message)
        rest.ClearField("name")
        rest.ClearField("parts")
        parts = tuple(map(cls.of, message.parts))
        return cls(message.name, rest.SerializeToString(deterministic=True), parts)


def plan_of(
    seed: int, items: Iterable[Item], *, provenance: Mapping[str, str] | None = None
) -> Plan:
    """The plan of a seed and an iterable of tensors.

    Args:
        seed: the seed.
        items: the tensors.
        provenance: where the plan came from.

    Raises:
        PlanError: for duplicate names and enum values that this version does not know, together
            with everything that `resolve` finds in the other tensors.
    """
    reading = Reading()
    for index, item in enumerate(items):
        if len(reading.violations) >= _MAX_VIOLATIONS:
            break
        reading.add(index, item)
    return reading.plan(seed, provenance or {})


class Reading:
    """Collects the tensors of a plan, one by one, and everything that is wrong with them.

    Attributes:
        violations: what is wrong with items that are no tensors; the caller adds what else it
            finds.
    """

    def __init__(self) -> None:
        self._reader = _Reader()
        self.violations = self._reader.violations
        self._tensors: dict[str, Tensor] = {}
        self._places: dict[str, int] = {}
        # Tensors with the name of an earlier one.
        self._again: list[tuple[int, str, Tensor]] = []

    def add(self, index: int, item: Item) -> None:
        """Adds a tensor, which stands at this place of the plan."""
        is_first = self.take_name(index, item.name)
        before = len(self.violations)
        tensor = self._reader.tensor(item, item.name, "", index)
        if len(self.violations) > before:
            return
        if is_first:
            self._tensors[item.name] = tensor
        else:
            self._again.append((index, item.name, tensor))

    def take_name(self, index: int, name: str) -> bool:
        """Whether no earlier tensor has this name; for one that has, a violation."""
        if self._places.setdefault(name, index) == index:
            return True
        text = f"{name!r} is already used by an earlier tensor; names must be unique"
        self.violations.append(Violation(name, "name", text, index))
        return False

    def plan(self, seed: int, provenance: Mapping[str, str]) -> Plan:
        """The plan.

        Args:
            seed: the plan's seed.
            provenance: where the plan came from.

        Raises:
            PlanError: with the violations, and those that `resolve` finds in the tensors that
                could be read, in the plan's order.
        """
        plan = Plan(self._tensors, seed, provenance=provenance)
        if not self.violations:
            return plan
        found = [*self.violations, *_unresolved(plan, self._places)]
        for index, name, tensor in self._again:
            if len(found) >= _MAX_VIOLATIONS:
                break
            found += _unresolved(Plan({name: tensor}, seed), {name: index})
        # A fault of the whole plan stands first; the order within a tensor stays.
        found.sort(key=lambda violation: -1 if violation.index is None else violation.index)
        raise PlanError(found)


def _unresolved(plan: Plan, places: Mapping[str, int]) -> list[Violation]:
    """What `resolve` finds in tensors, with their places in the whole plan."""
    try:
        resolve(plan)
    except PlanError as error:
        # The seed is the caller's own subject.
        return [
            replace(violation, index=places[violation.tensor])
            for violation in error.violations
            if violation.index is not None
        ]
    return []


class _Reader:
    """Makes tensors of items, and collects violations."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        # Models repeat their layers: tensors that differ only in the name share one object.
        self._known: dict[tuple[bytes, str | None], Tensor] = {}

    def tensor(
        self, item: Item, name: str, prefix: str, index: int, dtype: str | None = None
    ) -> Tensor:
        """The tensor of an item; `name`, `prefix` and `index` locate it in violations.

        Args:
            item: the tensor.
            name: of the tensor in the plan.
            prefix: the path from there.
            index: position of that tensor.
            dtype: the element type if the item has none.
        """
        key = item.rest, dtype
        tensor = None if item.parts else self._known.get(key)
        if tensor is None:
            before = len(self.violations)
            tensor = self._read(item, name, prefix, index, dtype)
            right = len(self.violations) == before
            if right and not item.parts and len(item.rest) <= SHORT:
                self._known[key] = tensor
        return tensor

    def _read(self, item: Item, name: str, prefix: str, index: int, dtype: str | None) -> Tensor:
        message = plan_pb2.Tensor.FromString(item.rest)
        # Validation refuses longer lists; here they must not take memory.
        kept = MAX_DIMENSIONS + 1
        values: dict[str, Any] = {"scheme": "", "shape": ()}
        if dtype:
            values["dtype"] = dtype
        for descriptor, value in message.ListFields():
            field = descriptor.name
            if field == "slices":
                value = tuple(
                    (
                        s.start if s.HasField("start") else None,
                        s.stop if s.HasField("stop") else None,
                    )
                    for s in value[:kept]
                )
            elif field == "zero_rows":
                value = tuple(value)
            elif field == "values":
                value = tuple(value[: MAX_LITERAL + 1])
            elif field in _REPEATED:
                value = tuple(value[:kept])
            elif field in _ENUMS:
                value = self._enum_name(name, prefix + field, _ENUMS[field], value, index)
            values[field] = value
        if item.parts:
            own = values.get("dtype")
            parts: list[tuple[str, Tensor]] = []
            for n, part in enumerate(item.parts):
                if len(self.violations) >= _MAX_VIOLATIONS:
                    break
                inner = f"{prefix}parts[{n}]."
                parts.append((part.name, self.tensor(part, name, inner, index, own)))
            # A type that only the whole or only its parts have is that of both.
            if parts:
                values.setdefault("dtype", parts[0][1].dtype)
            values["parts"] = tuple(parts)
        if not message.scheme:
            self.violations.append(
                Violation(name, f"{prefix}scheme", "is missing; every tensor needs one", index)
            )
        return Tensor(**values)

    def _enum_name(
        self,
        name: str,
        field: str,
        enum: Any,  # protobuf has two descriptor types, one for each of its implementations
        number: int,
        index: int,
    ) -> str:
        value = enum.values_by_number.get(number)
        if value is None:
            known = ", ".join(v.name for v in enum.values if v.number)
            text = f"has the number {number}, which this version does not know; use one of {known}"
            self.violations.append(Violation(name, field, text, index))
            return ""
        return str(value.name).lower()
