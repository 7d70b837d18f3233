"""What this machine offers: memory for large results and the CPUs that may be used.

Nothing here knows about tensors.
"""

from initcore.machine.cpus import available_cpus
from initcore.machine.memory import new_memory

__all__ = ["available_cpus", "new_memory"]
