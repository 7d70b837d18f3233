"""What this machine offers: memory for large results, the CPUs that may be used, files that rotate.

Nothing here knows about tensors.
"""

from initcore.machine.cpus import available_cpus
from initcore.machine.memory import new_memory
from initcore.machine.rotation import SETTLED, half_written, settled

__all__ = ["SETTLED", "available_cpus", "half_written", "new_memory", "settled"]
