"""A tree of every kind of leaf, and the bytes that a server sent and this process holds."""

from __future__ import annotations

from typing import Any

import initclient as ic
import initclient.jax as icj
import jax

SHAPES: dict[str, Any] = {
    "embed": {"embedding": ((24, 40), "bfloat16")},
    "layers": [
        {"kernel": ((40, 56), "float32"), "bias": ((56,), "float32")},
        # Sizes that no group of four elements divides.
        {"kernel": ((56, 24), "float16"), "bias": ((24,), "float16")},
    ],
    "conv": {"kernel": ((3, 5, 8, 16), "float32"), "bias": ((16,), "float32")},
    "square": ((48, 48), "float32"),
    "sparse": ((40, 16), "float32"),
    "small": ((16, 8), "float8_e4m3fn"),
    "step": ((), "int32"),
}

RULES = [
    icj.rule("square", ic.orthogonal),
    icj.rule("sparse", ic.sparse, sparsity=0.3, layout="jax"),
    icj.rule("small", ic.uniform, a=-1.0, b=1.0),
    icj.rule("step", ic.zeros),
    icj.rule("*/bias", ic.normal, std=0.5),
]


def tree(sharding_of: Any = lambda shape: None) -> Any:
    """The tree, each leaf with the sharding that the function gives to its shape."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(*leaf, sharding=sharding_of(leaf[0])),
        SHAPES,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


def plan() -> ic.Plan:
    """The plan of the tree."""
    return icj.plan(tree(), RULES, seed=7)
