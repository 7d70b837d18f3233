"""initserve for JAX: a plan from any pytree, and a plan into sharded arrays, to the bit.

    import initclient as ic
    import initclient.jax as icj

    shapes = jax.eval_shape(model.init, key, batch)
    plan = icj.plan(shapes, seed=7, rules=[
        icj.rule("*/Dense_0/kernel", ic.he_normal, layout="jax"),
    ])
    params = icj.init(shapes, plan)
    icj.verify(params, plan)

No other part of initserve imports jax, and this one never imports Flax: it knows Flax's trees by
their names.
"""

from initcore import MissingPackageError

try:
    import jax as _jax  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingPackageError("JAX", "jax", "initclient.jax") from error

from initclient.jax._init import init
from initclient.jax._planning import plan
from initclient.jax._recording import Recording, record
from initclient.jax._rules import Initializer, Rule, rule
from initclient.jax._verify import verify

__all__ = ["Initializer", "Recording", "Rule", "init", "plan", "record", "rule", "verify"]
