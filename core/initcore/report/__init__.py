"""The page that `plot` writes: histograms, singular values, signals through a model.

What draws is imported late, since few programs draw a page.
"""

from initcore.report.flows import Flow, LayerFlow

__all__ = ["Flow", "LayerFlow"]
