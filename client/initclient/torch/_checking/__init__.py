"""A model beside a plan: whether it fits, agreement of its processes, and verify afterwards."""

from initclient.torch._checking.agreement import Terms, agree, terms_of
from initclient.torch._checking.collective import verify
from initclient.torch._checking.fitting import check_fit, same_draw
from initclient.torch._checking.processes import Processes

__all__ = ["Processes", "Terms", "agree", "check_fit", "same_draw", "terms_of", "verify"]
