"""Transfer learning: a plan that takes some of its tensors from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from initcore.errors import PlanError, Violation
from initcore.plan.builders import pretrained
from initcore.plan.plan import Plan


def with_pretrained(
    plan: Plan,
    checkpoint: str,
    names: str | Sequence[str] = "*",
    *,
    rename: Mapping[str, str] | None = None,
    sha256: str | None = None,
) -> Plan:
    """The plan with some tensors taken from a checkpoint, and the rest as they are.

    Args:
        plan: the plan, such as one made from a model.
        checkpoint: as for `pretrained`: a path below the folder of checkpoints.
        names: globs of the tensors to take; `*` matches dots too.
        rename: prefixes of names in the plan, and the prefixes in the checkpoint that replace
            them: {"backbone.": "", "backbone.layer4.": "stage4."}. The longest match counts.
        sha256: as for `pretrained`.

    Returns:
        A plan with the same names, shapes, element types and slices.

    Raises:
        PlanError: for a glob or a prefix that matches no tensor.

    Example:
        >>> from initcore import Plan, zeros
        >>> plan = Plan({"body.weight": zeros((4, 3)), "head.weight": zeros((2, 4))})
        >>> plan = with_pretrained(plan, "body.safetensors", "body.*", rename={"body.": ""})
        >>> [(name, tensor.scheme, tensor.source) for name, tensor in plan.tensors.items()]
        [('body.weight', 'pretrained', 'weight'), ('head.weight', 'zeros', None)]
    """
    globs = (names,) if isinstance(names, str) else tuple(names)
    prefixes = sorted(rename or {}, key=len, reverse=True)
    unused = {"names": set(globs), "rename": set(prefixes)}
    tensors = dict(plan.tensors)
    for name, tensor in plan.tensors.items():
        matching = [glob for glob in globs if fnmatchcase(name, glob)]
        if not matching:
            continue
        unused["names"] -= set(matching)
        source = None
        prefix = next((p for p in prefixes if name.startswith(p)), None)
        if prefix is not None and rename is not None:
            unused["rename"].discard(prefix)
            source = rename[prefix] + name[len(prefix) :]
        dtype = tensor.dtype
        taken = pretrained(tensor.shape, checkpoint, source, sha256, dtype=dtype)
        tensors[name] = replace(taken, slices=tensor.slices)
    violations = [
        Violation("", field, f"has {text!r}, which fits no tensor that is taken")
        for field, texts in unused.items()
        for text in sorted(texts)
    ]
    if violations:
        raise PlanError(violations)
    return replace(plan, tensors=tensors)
