"""The report that `plot` writes, and what it may show; what draws is imported when asked for."""

from initclient._report._flows import Flow, LayerFlow

__all__ = ["Flow", "LayerFlow"]
