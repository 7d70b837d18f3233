"""What this machine offers: memory for results, CPUs and threads on them, files that rotate.

Pauses of Python's collector too. Nothing here knows about tensors.
"""

from initcore.machine.collection import after_pauses, collection_paused
from initcore.machine.cpus import available_cpus
from initcore.machine.memory import new_memory, populate
from initcore.machine.rotation import SETTLED, half_written, settled
from initcore.machine.threads import run_all

__all__ = [
    "SETTLED",
    "after_pauses",
    "available_cpus",
    "collection_paused",
    "half_written",
    "new_memory",
    "populate",
    "run_all",
    "settled",
]
