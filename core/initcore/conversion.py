"""Between plans and their protobuf messages: the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from initserve.v1 import plan_pb2

from initcore.errors import PlanError, Violation
from initcore.plan import Plan, Tensor
from initcore.validation import MAX_DIMENSIONS

_MAX_VIOLATIONS = 10_000
_FIELDS = plan_pb2.Tensor.DESCRIPTOR.fields_by_name
_REPEATED = ("shape", "batch_axes", "axes")
_ENUMS = {name: field.enum_type for name, field in _FIELDS.items() if field.enum_type is not None}

# Longer messages are not remembered while a plan is read: they would fill the memory.
_SHORT = 256


def to_proto(plan: Plan) -> plan_pb2.Plan:
    """The message of a plan. Arguments left to their defaults stay left out.

    Raises:
        PlanError: if a value does not fit its field, such as a scheme that is not known;
            `initcore.resolution.resolve` finds more.
    """
    message = plan_pb2.Plan()
    violations = []
    try:
        message.seed = plan.seed
    except (TypeError, ValueError) as error:
        violations.append(Violation("", "seed", f"is {plan.seed!r}: {error}"))
    for index, (name, tensor) in enumerate(plan.tensors.items()):
        wrong = _fill(message.tensors.add(), name, tensor)
        violations += [Violation(name, field, text, index) for field, text in wrong]
    if violations:
        raise PlanError(violations)
    return message


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
        except (TypeError, ValueError) as error:
            wrong.append((field, f"is {value!r}: {error}"))
    return wrong


def _wire_fields(name: str, tensor: Tensor) -> list[tuple[str, Any]]:
    fields: list[tuple[str, Any]] = [
        ("name", name),
        ("shape", tensor.shape),
        ("dtype", tensor.dtype),
        ("scheme", tensor.scheme),
        ("stream", tensor.stream),
        ("seed", tensor.seed),
        ("slices", tensor.slices),
        ("zero_rows", tensor.zero_rows),
    ]
    fields += tensor.given().items()
    return [(field, value) for field, value in fields if value is not None]


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
        PlanError: for duplicate names and enum values that this version does not know.
    """
    return plan_of(message.seed, message.tensors)


def plan_of(seed: int, items: Iterable[plan_pb2.Tensor]) -> Plan:
    """The plan of a seed and messages of tensors, which need not all exist at once.

    Raises:
        PlanError: like `from_proto`.
    """
    violations: list[Violation] = []
    tensors: dict[str, Tensor] = {}
    # Models repeat themselves: tensors whose messages differ in name alone are one object.
    known: dict[bytes, Tensor] = {}
    nameless = plan_pb2.Tensor()
    for index, item in enumerate(items):
        if len(violations) >= _MAX_VIOLATIONS:
            break
        if item.name in tensors:
            text = f"{item.name!r} is already used by an earlier tensor; names must be unique"
            violations.append(Violation(item.name, "name", text, index))
            continue
        nameless.CopyFrom(item)
        nameless.ClearField("name")
        key = nameless.SerializeToString()
        tensor = known.get(key)
        if tensor is None:
            before = len(violations)
            tensor = _tensor(item, item.name, "", index, violations)
            if len(violations) == before and len(key) <= _SHORT:
                known[key] = tensor
        tensors[item.name] = tensor
    if violations:
        raise PlanError(violations)
    return Plan(tensors, seed)


def _tensor(
    item: plan_pb2.Tensor,
    name: str,
    prefix: str,
    index: int,
    violations: list[Violation],
    dtype: str | None = None,
) -> Tensor:
    """The tensor of a message; `name` and `prefix` say in violations where it is."""
    # More are an error, found by validation: here they must not take memory.
    kept = MAX_DIMENSIONS + 1
    values: dict[str, Any] = {"scheme": "", "shape": ()}
    if dtype:
        values["dtype"] = dtype
    for descriptor, value in item.ListFields():
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
        elif field in _REPEATED:
            value = tuple(value[:kept])
        elif field in _ENUMS:
            value = _enum_name(name, prefix + field, _ENUMS[field], value, index, violations)
        elif field in ("name", "parts"):
            continue
        values[field] = value
    if item.parts:
        own = values.get("dtype")
        parts = tuple(
            (part.name, _tensor(part, name, f"{prefix}parts[{n}].", index, violations, own))
            for n, part in enumerate(item.parts)
        )
        # The file's type is that of its parts, or theirs is the file's.
        values = {"dtype": parts[0][1].dtype, **values, "parts": parts}
    if not item.scheme:
        violations.append(
            Violation(name, f"{prefix}scheme", "is missing; every tensor needs one", index)
        )
    return Tensor(**values)


def _enum_name(
    name: str,
    field: str,
    enum: Any,  # protobuf has two descriptor types, one for each of its implementations
    number: int,
    index: int,
    violations: list[Violation],
) -> str:
    value = enum.values_by_number.get(number)
    if value is None:
        known = ", ".join(v.name for v in enum.values if v.number)
        text = f"has the number {number}, which this version does not know; use one of {known}"
        violations.append(Violation(name, field, text, index))
        return ""
    return str(value.name).lower()
