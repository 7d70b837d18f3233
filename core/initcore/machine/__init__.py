"""What this machine offers: memory for results, CPUs and threads on them, files that rotate.

Nothing here knows about tensors.
"""

from initcore.machine.cpus import available_cpus
from initcore.machine.memory import new_memory, populate
from initcore.machine.rotation import SETTLED, half_written, settled
from initcore.machine.threads import run_all

__all__ = [
    "SETTLED",
    "available_cpus",
    "half_written",
    "new_memory",
    "populate",
    "run_all",
    "settled",
]
