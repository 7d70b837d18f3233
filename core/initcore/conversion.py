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
_REPEATED = ("shape", "batch_axes")
_ENUMS = {name: field.enum_type for name, field in _FIELDS.items() if field.enum_type is not None}


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
        added = message.tensors.add()
        for field, value in _wire_fields(name, tensor):
            try:
                _set(added, field, value)
            except (TypeError, ValueError) as error:
                violations.append(Violation(name, field, f"is {value!r}: {error}", index))
    if violations:
        raise PlanError(violations)
    return message


def _wire_fields(name: str, tensor: Tensor) -> list[tuple[str, Any]]:
    fields: list[tuple[str, Any]] = [
        ("name", name),
        ("shape", tensor.shape),
        ("dtype", tensor.dtype),
        ("scheme", tensor.scheme),
        ("stream", tensor.stream),
        ("seed", tensor.seed),
        ("slices", tensor.slices),
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
    for index, item in enumerate(items):
        if len(violations) >= _MAX_VIOLATIONS:
            break
        if item.name in tensors:
            text = f"{item.name!r} is already used by an earlier tensor; names must be unique"
            violations.append(Violation(item.name, "name", text, index))
            continue
        tensors[item.name] = _tensor(item, index, violations)
    if violations:
        raise PlanError(violations)
    return Plan(tensors, seed)


def _tensor(item: plan_pb2.Tensor, index: int, violations: list[Violation]) -> Tensor:
    # More are an error, found by validation: here they must not take memory.
    kept = MAX_DIMENSIONS + 1
    values: dict[str, Any] = {"scheme": "", "shape": ()}
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
        elif field in _REPEATED:
            value = tuple(value[:kept])
        elif field in _ENUMS:
            value = _enum_name(item, field, _ENUMS[field], value, index, violations)
        elif field == "name":
            continue
        values[field] = value
    if not item.scheme:
        violations.append(
            Violation(item.name, "scheme", "is missing; every tensor needs one", index)
        )
    return Tensor(**values)


def _enum_name(
    item: plan_pb2.Tensor,
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
        violations.append(Violation(item.name, field, text, index))
        return ""
    return str(value.name).lower()
