"""Values computed in this process: arrays of any framework, ranges of a file, fingerprints.

Not here: sources (`_source`), and models (`initclient.torch`, `initclient.jax`).
"""

from initclient._compute.arrays import compute_arrays
from initclient._compute.batching import Track, batches
from initclient._compute.fingerprints import compute_fingerprints
from initclient._compute.frameworks import (
    FrameworkName,
    default_jax_device,
    fill_device,
    framework_of,
    make_jax,
    refuse_tracing,
    take_all,
    too_wide,
)
from initclient._compute.ranges import compute_in_order, compute_ranges

__all__ = [
    "FrameworkName",
    "Track",
    "batches",
    "compute_arrays",
    "compute_fingerprints",
    "compute_in_order",
    "compute_ranges",
    "default_jax_device",
    "fill_device",
    "framework_of",
    "make_jax",
    "refuse_tracing",
    "take_all",
    "too_wide",
]
