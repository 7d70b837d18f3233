"""record: traces a model's own initialization and keeps what it drew, for plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from initcore import Plan

from initclient._compute import refuse_tracing
from initclient.jax._leaves import Leaf, Naming, leaves
from initclient.jax._planning import planned
from initclient.jax._record import Finding, Recorded, run
from initclient.jax._rules import Rule
from initclient.jax._trace import Traced


class Recording(Recorded):
    """A tree of weights, and what its own initialization drew for each leaf; `record` makes it.

    Example:
        >>> import jax, initclient.jax as icj
        >>> init = jax.nn.initializers.normal(0.02)
        >>> recording = icj.record(lambda: {"w": init(jax.random.key(0), (4, 2))})
        >>> recording.plan(seed=7).tensors["w"].std
        0.02
    """

    def __init__(self, made: Traced, found: dict[str, Finding], name: Naming | None) -> None:
        super().__init__(made, found)
        self._naming = name

    def plan(self, seed: int = 0, rules: Iterable[Rule] = (), dtype: Any = None) -> Plan:
        """The plan of the recorded tree.

        Args:
            seed: the plan's seed; the recorded keys decide nothing.
            rules: results of `rule`, which come before what was recorded.
            dtype: element type of all floating-point leaves, instead of the tree's own.

        Raises:
            PlanError: naming every leaf that no rule covers and whose law is not known, with the
                operation of JAX and the line of code.
            TypeError: for a rule that is no `Rule`.

        Warns:
            PlanWarning: for rules without effect.
        """
        found, _ = leaves(self.shapes, self._naming)
        streams: dict[str, str] = {}

        def recorded(leaf: Leaf, kind: Any) -> Any:
            return self.tensor(leaf.name, kind, streams)

        return planned(found, rules, seed, dtype, recorded)


def record(init: Callable[[], Any], *, name: Naming | None = None) -> Recording:
    """Traces an initialization, and keeps what it drew for each leaf of its result.

    Nothing is computed and nothing is guessed: `jax.make_jaxpr` gives the operations, and every
    one between a random key and a leaf is followed. The function is traced twice, since values
    that differ between two runs come from elsewhere.

    Args:
        init: a function without arguments that returns arrays, or a model:
            `lambda: model.init(jax.random.key(0), batch)` of Flax linen and Haiku,
            `lambda: Model(rngs=nnx.Rngs(0))` of Flax nnx, `lambda: Model(key=key)` of Equinox.
        name: maps a leaf's path to its name in the plan; pass the same function to `init`.

    Returns:
        The recording: the tree's shapes, and what its leaves are drawn from. A leaf whose law is
        not known is an error of `plan`, unless a rule covers it.

    Raises:
        PlanError: for leaves that are random keys, and for code that does not repeat.
        TypeError: for what is no function without arguments.
        RuntimeError: under jit, or another transformation that traces.

    Example:
        >>> import jax, initclient.jax as icj
        >>> dense = jax.nn.initializers.lecun_normal()
        >>> recording = icj.record(lambda: {"kernel": dense(jax.random.key(0), (4, 2))})
        >>> plan = recording.plan(seed=7)
        >>> icj.init(recording.shapes, plan, target="local")["kernel"].shape
        (4, 2)
    """
    refuse_tracing("initclient.jax.record")

    def names_of(tree: Any) -> list[str]:
        return [leaf.name for leaf in leaves(tree, name)[0]]

    return Recording(*run(init, names_of), name)
