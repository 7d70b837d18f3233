"""The page that `plot` writes: histograms, singular values, signals through a model.

The modules that draw (`initcore.report.drawing`) are imported late, since few programs draw a
page. Not here: the table of `describe` (`show`), and measuring signals in a model (the client).
"""

from initcore.report.flows import Flow, LayerFlow

__all__ = ["Flow", "LayerFlow"]
