"""The libraries whose arrays `fetch` returns: one file each, found by its name.

Not here: models (`initclient.torch`, `initclient.jax`).
"""

from initclient._compute.frameworks._framework import (
    Framework,
    FrameworkName,
    framework_of,
    take_all,
)
from initclient._compute.frameworks._gpu import default_jax_device, fill_device, make_jax
from initclient._compute.frameworks.jax import refuse_tracing, too_wide

__all__ = [
    "Framework",
    "FrameworkName",
    "default_jax_device",
    "fill_device",
    "framework_of",
    "make_jax",
    "refuse_tracing",
    "take_all",
    "too_wide",
]
