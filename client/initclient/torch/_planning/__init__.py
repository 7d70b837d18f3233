"""From a model, rules and recipes to the plan of its weights, with what is doubtful in it."""

from initclient.torch._planning.keeping import kept_names, preserved
from initclient.torch._planning.planning import plan
from initclient.torch._planning.rules import Initializer, Rule, given, keep, rule

__all__ = [
    "Initializer",
    "Rule",
    "given",
    "keep",
    "kept_names",
    "plan",
    "preserved",
    "rule",
]
