"""From a plan to the content of each tensor: defaults, fans, gains, bounds, composition.

Not here: a single value of a tensor (`generate`).
"""
