"""Whether a model fits a plan: names, shapes, element types, ties, memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from initcore import Plan, PlanError, Tensor, Violation

from initclient._plan import is_random, pinned
from initclient.torch._layouts import fits
from initclient.torch._model import Member, dtype_name, overlaps, same_places


def check_fit(
    found: Sequence[Member],
    plan: Plan,
    given: Mapping[str, torch.Tensor],
    stays: Collection[str],
    partial: bool,
) -> tuple[str, ...]:
    """Checks the model against the plan; returns names that the model lacks.

    Args:
        found: the model's members.
        plan: the plan.
        given: values that are given, by name.
        stays: names that stay as they are.
        partial: whether the model may lack tensors of the plan.

    Raises:
        PlanError: naming every parameter that does not fit.
    """
    violations: list[Violation] = []
    first: dict[int, str] = {}
    for member in found:
        name = member.name
        # Refuses layouts that are not known.
        member.pieces  # noqa: B018
        written = name in given or name in plan.tensors
        if written and (message := member.layout.refusal):
            violations.append(Violation(name, "layout", message))
        if name in given:
            if not fits(member.layout, tuple(given[name].shape)):
                shapes = f"{list(given[name].shape)} and {list(member.shape)} in the model"
                violations.append(Violation(name, "values", f"have the shape {shapes}"))
            continue
        if name not in plan.tensors:
            if not member.is_buffer and name not in stays:
                message = (
                    "the model has this parameter and the plan does not; add it to the plan, give "
                    "its values to init_ (values=), or leave it as it is (keep=)"
                )
                violations.append(Violation(name, "name", message))
            continue
        differences = list(_differences(member, plan.tensors[name]))
        other = first.setdefault(id(member.tensor), name)
        if not differences and other != name and not same_draw(plan, other, name):
            differences.append(
                (
                    "stream",
                    f"is tied to {other!r} in the model, and the plan gives them other values",
                )
            )
        violations += [Violation(name, field, message) for field, message in differences]
    names = {member.name for member in found}
    for name in given:
        if name not in names:
            message = "are given to init_, and the model has no parameter or buffer of this name"
            violations.append(Violation(name, "values", message))
    absent = tuple(name for name in plan.tensors if name not in names)
    if absent and not partial:
        rest = f", like {len(absent) - 1} others," if len(absent) > 1 else ""
        message = (
            f"the plan has this tensor{rest} and the model does not; if the model is a part of "
            "the planned model, such as a pipeline stage, pass partial=True"
        )
        violations.append(Violation(absent[0], "name", message))
    filled = {*plan.tensors, *given}
    violations += _shared([m for m in found if m.name in filled], plan, given)
    if violations:
        raise PlanError(violations)
    return absent


def _shared(
    filled: Sequence[Member], plan: Plan, values: Mapping[str, torch.Tensor]
) -> Iterator[Violation]:
    """Violations of tensors that share memory, where one write would overwrite another."""
    for member, other in overlaps(filled):
        if member is other:
            text = "has several elements at one address (expand?); make a copy of it"
            yield Violation(member.name, "strides", text)
        elif given := {member.name, other.name} & values.keys():
            if len(given) == 2 and same_places(member, other):
                continue
            text = (
                f"shares memory with {other.name!r}, which is another {_kind(other)}, and one of "
                f"them is given; make them one {_kind(member, other)}, or copies"
            )
            yield Violation(member.name, "storage", text)
        elif not (same_places(member, other) and same_draw(plan, other.name, member.name)):
            text = (
                f"shares memory with {other.name!r}, which is another {_kind(other)}, and the plan "
                f"gives them different values; make them one {_kind(member, other)}, or copies"
            )
            yield Violation(member.name, "storage", text)


def _kind(*members: Member) -> str:
    kinds = {"buffer" if member.is_buffer else "parameter" for member in members}
    return kinds.pop() if len(kinds) == 1 else "tensor"


def _differences(member: Member, tensor: Tensor) -> Iterator[tuple[str, str]]:
    if tensor.shape != member.shape and not fits(member.layout, tensor.shape):
        yield "shape", f"is {list(tensor.shape)} in the plan and {list(member.shape)} in the model"
    dtype = dtype_name(member.tensor.dtype)
    if tensor.dtype != dtype:
        yield (
            "dtype",
            f"is {tensor.dtype} in the plan and {dtype} in the model; make the plan from the model "
            "as it is, or convert the model first",
        )


def same_draw(plan: Plan, first: str, second: str) -> bool:
    def drawn(name: str) -> Tensor:
        return replace(pinned(plan.tensors[name], name), slices=None)

    a, b = drawn(first), drawn(second)
    if not (is_random(a) or is_random(b)):
        # The same in every stream.
        a, b = _without_streams(a), _without_streams(b)
    return a == b


def _without_streams(tensor: Tensor) -> Tensor:
    parts = tuple((name, _without_streams(part)) for name, part in tensor.parts or ())
    return replace(tensor, stream=None, seed=None, parts=parts or None)
