"""What this machine offers: memory for large results, the CPUs that may be used, threads on them.

Nothing here knows about tensors.
"""

from initcore.machine.cpus import available_cpus
from initcore.machine.memory import new_memory
from initcore.machine.threads import run_all

__all__ = ["available_cpus", "new_memory", "run_all"]
