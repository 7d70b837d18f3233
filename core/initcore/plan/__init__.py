"""Plans as values: tensors, the table of schemes, their builders, and checks of single fields.

Not here: plan files and protobuf messages (`wire`), and checks that take several fields together
(`resolve`).
"""

from initcore.plan import builders
from initcore.plan.builders import *  # noqa: F403 - its __all__ names one builder a scheme
from initcore.plan.composed_builders import retyped
from initcore.plan.frozen import FrozenDict
from initcore.plan.gains import calculate_gain, fans
from initcore.plan.kinds import is_plain_entry, kind_key
from initcore.plan.plain_values import plain_int, plain_ints, plain_number
from initcore.plan.plan import Plan, Tensor, attach, with_plain
from initcore.plan.schemes import COMPOSED, REALS, SCHEMES, composed_shape
from initcore.plan.spelling import suggestion
from initcore.plan.transfer import with_pretrained
from initcore.plan.validation import (
    MAX_DIMENSIONS,
    MAX_LITERAL,
    Check,
    check_kind,
    check_name,
    check_place,
    check_seed,
)

__all__ = [
    "COMPOSED",
    "MAX_DIMENSIONS",
    "MAX_LITERAL",
    "REALS",
    "SCHEMES",
    "Check",
    "FrozenDict",
    "Plan",
    "Tensor",
    "attach",
    "calculate_gain",
    "check_kind",
    "check_name",
    "check_place",
    "check_seed",
    "composed_shape",
    "fans",
    "is_plain_entry",
    "kind_key",
    "plain_int",
    "plain_ints",
    "plain_number",
    "retyped",
    "suggestion",
    "with_plain",
    "with_pretrained",
]
__all__ += builders.__all__
