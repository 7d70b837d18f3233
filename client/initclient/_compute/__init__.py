"""Values computed in this process: arrays of any framework, and ranges of a file."""

from initclient._compute.arrays import compute
from initclient._compute.batches import batches
from initclient._compute.frameworks import framework_of, take_all, too_wide
from initclient._compute.gpu import default_jax_device, fill_device, make_jax
from initclient._compute.ranges import compute_ranges

__all__ = [
    "batches",
    "compute",
    "compute_ranges",
    "default_jax_device",
    "fill_device",
    "framework_of",
    "make_jax",
    "take_all",
    "too_wide",
]
