"""A plan for people: describe, diff, plot, models of servers."""

from initclient._inspect.descriptions import agreed, describe, from_request
from initclient._inspect.differences import Changed, PlanDiff, diff
from initclient._inspect.models import get_plan, list_models
from initclient._inspect.page import plot

__all__ = [
    "Changed",
    "PlanDiff",
    "agreed",
    "describe",
    "diff",
    "from_request",
    "get_plan",
    "list_models",
    "plot",
]
