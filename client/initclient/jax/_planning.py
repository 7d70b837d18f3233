"""plan: makes the plan of a pytree's arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
from initcore import Plan, PlanError, Tensor, Violation

from initclient._exceptions import PlanWarning
from initclient._plan import check_plan, constant_for, listed, new_streams
from initclient.jax._axes import differ, in_jax_axes
from initclient.jax._flax import FlaxDefaults
from initclient.jax._leaves import Leaf, Naming, leaves
from initclient.jax._rules import Rule


def plan(
    tree: Any,
    rules: Iterable[Rule] = (),
    *,
    seed: int = 0,
    dtype: Any = None,
    name: Naming | None = None,
) -> Plan:
    """The plan of a tree of arrays: its names, global shapes and element types.

    No value of the tree is read. A name is the path to the leaf, its keys joined by slashes, as
    in "params/layers_0/attn/query/kernel"; Flax's boxes around arrays (nnx.Variable,
    Partitioned) add no key. The name determines the values: plan the tree that you initialize,
    not a subtree of it.

    Args:
        tree: a pytree of jax.ShapeDtypeStruct, as jax.eval_shape and nnx.eval_shape make it, or
            of arrays.
        rules: results of `rule`; the first that matches a leaf decides. After them come the
            defaults of Flax's own layers, if name and shape identify the layer: kernels, biases,
            scales, embeddings, running means and variances. A layer with another initializer
            (kernel_init=...) looks the same in the tree, and needs a rule.
        seed: the plan's seed.
        dtype: element type of all floating-point leaves, instead of the tree's own.
        name: maps a leaf's name to its name in the plan; pass the same function to `init`.

    Returns:
        The plan of all leaves, in the tree's order.

    Raises:
        PlanError: naming every leaf that no rule covers, and everything else that is wrong.
        TypeError: for a rule that is no `Rule`, or whose initializer does not take its
            arguments.

    Warns:
        PlanWarning: for rules without effect, or that draw other values than in 0.2.0.

    Example:
        >>> import jax, initclient as ic, initclient.jax as icj
        >>> tree = {"w": jax.ShapeDtypeStruct((4, 2), "bfloat16")}
        >>> icj.plan(tree, [icj.rule("w", ic.normal, std=0.02)], seed=7).tensors["w"].std
        0.02
    """
    found, _ = leaves(tree, name)
    defaults = FlaxDefaults(found)
    uncovered: list[Leaf] = []

    def default(leaf: Leaf, kind: Any) -> Tensor:
        initializer = defaults.of(leaf)
        if initializer is None:
            uncovered.append(leaf)
            raise PlanError([_uncovered(leaf, first=len(uncovered) == 1)])
        return initializer(leaf.shape, dtype=kind)

    return planned(found, rules, seed, dtype, default)


def planned(
    found: Sequence[Leaf],
    rules: Iterable[Rule],
    seed: int,
    dtype: Any,
    otherwise: Callable[[Leaf, Any], Tensor],
) -> Plan:
    """The plan of leaves, by rules and otherwise by a function.

    Args:
        found: the leaves.
        rules: the user's rules, of which the first that matches decides.
        seed: the plan's seed.
        dtype: element type of all floating-point leaves, instead of their own.
        otherwise: the tensor of a leaf without a rule, from the leaf and its element type; it
            raises PlanError for a leaf that needs one.

    Raises:
        PlanError: naming everything that is wrong.
        TypeError: for a rule that is no `Rule`, and for rules that are in no list.

    Warns:
        PlanWarning: for rules without effect, or that draw other values than in 0.2.0.
    """
    rules = listed(rules)
    for rule in rules:
        if not isinstance(rule, Rule):
            raise TypeError(
                f"among the rules is {rule!r}; make rules with initclient.jax.rule(...)"
            )
    used = set()
    changed: dict[int, list[str]] = {}
    tensors: dict[str, Tensor] = {}
    ruled: dict[str, Tensor] = {}
    violations: list[Violation] = []
    for leaf in found:
        number = next((i for i, rule in enumerate(rules) if rule.matches_name(leaf.name)), None)
        try:
            if number is None:
                tensors[leaf.name] = otherwise(leaf, _kind(leaf, dtype))
                continue
            used.add(number)
            earlier = rules[number].tensor(leaf.name, leaf.shape, _kind(leaf, dtype))
            made = in_jax_axes(earlier, leaf.name, rules[number])
        except PlanError as error:
            violations += error.violations
            continue
        tensors[leaf.name] = ruled[leaf.name] = made
        if differ(made, earlier):
            changed.setdefault(number, []).append(leaf.name)
    if violations:
        raise PlanError(violations)
    plan = Plan(tensors, seed)
    check_plan(plan)
    texts = _unused(rules, used) + new_streams(ruled)
    texts += [_changed(rules[number], names) for number, names in changed.items()]
    for text in texts:
        warnings.warn(text, PlanWarning, stacklevel=3)
    return plan


def _unused(rules: Sequence[Rule], used: set[int]) -> list[str]:
    return [
        f"{rule!r} has no effect: earlier rules match all of its parameters, or it matches none"
        for number, rule in enumerate(rules)
        if number not in used
    ]


def _changed(rule: Rule, names: Sequence[str]) -> str:
    rest = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return (
        f"{rule!r} takes JAX's axes, [*window, in, out], since 0.3.0, and torch's before, so "
        f"{names[0]}{rest} has other values than it had; layout='jax' says that this is meant, "
        "layout='torch' draws the old ones, and stacked layers need batch_axes"
    )


def _kind(leaf: Leaf, dtype: Any) -> Any:
    is_floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return dtype if dtype is not None and is_floating else leaf.dtype


def _uncovered(leaf: Leaf, *, first: bool) -> Violation:
    message = f"no rule covers this leaf, of shape {list(leaf.shape)}; add one, such as "
    # A norm's scale starts at 1: its layer would pass nothing on.
    constant = constant_for([str(key) for key in leaf.keys], leaf.shape)
    message += f"rule({leaf.name!r}, ic.{constant or 'lecun_normal'}"
    message += ")" if constant else ", layout='jax')"
    if not constant and len(leaf.shape) > 2:
        message += ", with batch_axes=(0,) if its first axis counts stacked layers"
    if first:
        message += (
            "; or record the model's own code: icj.record(lambda: ...).plan(seed=...), with what "
            "makes this tree in place of the dots"
        )
    return Violation(leaf.name, "scheme", message)
