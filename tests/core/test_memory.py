"""New memory for results."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from initcore.machine.memory import new_memory

SIZES = [0, 1, 4095, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 50_000_001]


@pytest.mark.parametrize("size", SIZES)
def test_memory_can_be_written_and_lies_where_elements_may(size: int) -> None:
    memory = new_memory(size)
    assert memory.shape == (size,)
    assert memory.dtype == np.uint8
    assert memory.flags.writeable
    assert memory.flags.c_contiguous
    assert memory.ctypes.data % 16 == 0
    memory[:] = 7
    assert np.array_equal(np.unique(memory), [7] if size else [])


FORK = """
import os
from initcore.machine.memory import new_memory

memory = new_memory(8 << 20)
memory[:] = 1
child = os.fork()
if not child:
    memory[:] = 2
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert memory.max() == 1
"""


def test_a_forked_process_has_its_own_values() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True)


def test_memory_goes_back_with_its_last_view() -> None:
    def resident() -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) << 10

    before = resident()
    memory = new_memory(256 << 20)
    memory[:] = 1
    view = memory[5:].view(np.uint8)[:100]
    del memory
    assert resident() - before > 200 << 20
    assert view.max() == 1
    del view
    gc.collect()
    assert resident() - before < 50 << 20


@pytest.mark.parametrize("size", [1 << 60, 1 << 63, 1 << 70])
def test_too_much_is_a_memory_error(size: int) -> None:
    with pytest.raises(MemoryError, match=f"no memory for {size} bytes"):
        new_memory(size)
