"""How the library's work is divided among the CPUs that this process may use."""

from __future__ import annotations

from initcore.machine import available_cpus

# Parts for each thread, so that a slow one does not keep the others waiting.
_PARTS_PER_THREAD = 4


def threads_and_parts(elements: int, least: int) -> tuple[int, int]:
    """How many threads work on so many elements at most, and in how many parts.

    Args:
        elements: elements of the work.
        least: elements of a part, at least, where there is more than one part.
    """
    threads = available_cpus() if elements >= 2 * least else 1
    return threads, min(_PARTS_PER_THREAD * threads, elements // least) if threads > 1 else 1
