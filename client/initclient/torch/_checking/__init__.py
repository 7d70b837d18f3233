"""verify for torch: each process's parts, added up over all processes."""

from initclient.torch._checking.collective import verify

__all__ = ["verify"]
