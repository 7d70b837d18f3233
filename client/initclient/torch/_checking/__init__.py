"""A model beside a plan: whether it fits, agreement of its processes, and verify afterwards."""

from initclient.torch._checking.agreement import Terms, agree, terms_of
from initclient.torch._checking.collective import verify
from initclient.torch._checking.engines import Engine
from initclient.torch._checking.fingerprinting import fingerprints
from initclient.torch._checking.fitting import check_fit, same_draw
from initclient.torch._checking.joining import Part, together
from initclient.torch._checking.processes import Processes

__all__ = [
    "Engine",
    "Part",
    "Processes",
    "Terms",
    "agree",
    "check_fit",
    "fingerprints",
    "same_draw",
    "terms_of",
    "together",
    "verify",
]
