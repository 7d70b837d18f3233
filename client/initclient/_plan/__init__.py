"""Plans as users pass them: inputs, rules, streams pinned to names, rescaling."""

from initclient._plan.constants import constant_for
from initclient._plan.inputs import PlanLike, as_plan, check_plan, lay_out, warn_about
from initclient._plan.joining import joined
from initclient._plan.keeping import KeepingPlan, kept
from initclient._plan.model import KNOWS_NO_SEEDS, Model, ModelInfo
from initclient._plan.pinning import is_random, new_streams, pinned
from initclient._plan.regions import Bounds, Region, wanted_regions
from initclient._plan.rescaling import scaled
from initclient._plan.rules import Initializer, Rule, by_name, checked, listed, named, rule

__all__ = [
    "KNOWS_NO_SEEDS",
    "Bounds",
    "Initializer",
    "KeepingPlan",
    "Model",
    "ModelInfo",
    "PlanLike",
    "Region",
    "Rule",
    "as_plan",
    "by_name",
    "check_plan",
    "checked",
    "constant_for",
    "is_random",
    "joined",
    "kept",
    "lay_out",
    "listed",
    "named",
    "new_streams",
    "pinned",
    "rule",
    "scaled",
    "wanted_regions",
    "warn_about",
]
