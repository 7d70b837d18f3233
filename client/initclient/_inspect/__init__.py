"""A plan for people: describe, diff, plot."""

from initclient._inspect.descriptions import agreed, describe, from_request
from initclient._inspect.differences import Changed, PlanDiff, diff
from initclient._inspect.page import plot

__all__ = ["Changed", "PlanDiff", "agreed", "describe", "diff", "from_request", "plot"]
