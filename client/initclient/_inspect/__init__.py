"""Plans and servers for people: describe, diff, plot, reports of servers."""

from initclient._inspect.descriptions import agreed, describe, from_request
from initclient._inspect.differences import Changed, PlanDiff, diff
from initclient._inspect.page import plot
from initclient._inspect.servers import ServerReport, server_reports

__all__ = [
    "Changed",
    "PlanDiff",
    "ServerReport",
    "agreed",
    "describe",
    "diff",
    "from_request",
    "plot",
    "server_reports",
]
