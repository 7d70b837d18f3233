"""Processes that hold a model together: their agreement before init_, and verify after it."""

from initclient.torch._checking.agreement import Terms, agree, terms_of
from initclient.torch._checking.collective import verify
from initclient.torch._checking.processes import Processes

__all__ = ["Processes", "Terms", "agree", "terms_of", "verify"]
