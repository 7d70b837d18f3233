"""New memory for results."""

from __future__ import annotations

import gc
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from initcore.machine import memory as memory_module
from initcore.machine.memory import new_memory, populate

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


linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have one kind of page")


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) << 10


def flags_at(address: int) -> set[str]:
    """What the system was asked for the pages at an address, such as "hg" for huge ones."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return set(line.split()[1:])
    return set()


@linux
@pytest.mark.parametrize("faster", ["huge", "ordinary"])
def test_each_piece_follows_the_faster_kind_of_page(
    faster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = memory_module._Kinds()
    monkeypatch.setattr(memory_module, "_kinds", kinds)
    took = kinds.took

    def as_if(huge: bool, seconds: float) -> None:
        assert seconds > 0
        took(huge, 1.0 if huge == (faster == "huge") else 2.0)

    monkeypatch.setattr(kinds, "took", as_if)
    piece = memory_module._PIECE
    memory = new_memory(24 * piece)
    first = -memory.ctypes.data % piece
    pieces = memory[first : first + 20 * piece]
    populate(pieces)
    wanted = "hg" if faster == "huge" else "nh"
    found = [flags_at(pieces.ctypes.data + i * piece) & {"hg", "nh"} for i in range(20)]
    assert found == [{"nh"}, {"hg"}, *[{wanted}] * 18]
    # Later the other kind is tried once, and is taken if it is faster by then.
    slower = faster != "huge"
    choices = [kinds.next_is_huge() for _ in range(memory_module._BETWEEN_TRIALS)]
    assert choices.count(slower) == 1
    took(slower, 0.5)
    assert kinds.next_is_huge() == slower


@linux
@pytest.mark.parametrize("huge", [True, False])
def test_the_next_result_is_asked_as_a_whole_for_the_faster_kind(
    huge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = memory_module._Kinds()
    monkeypatch.setattr(memory_module, "_kinds", kinds)
    kinds.took(huge, 1.0)
    kinds.took(not huge, 2.0)
    advised: list[int] = []
    advise = memory_module._advise

    def recorded(begin: int, end: int, advice: int) -> bool:
        advised.append(advice)
        return advise(begin, end, advice)

    monkeypatch.setattr(memory_module, "_advise", recorded)
    memory = new_memory(16 << 20)
    populate(memory)
    assert flags_at(memory.ctypes.data + (8 << 20)) & {"hg", "nh"} == {"hg" if huge else "nh"}
    # The advice for a piece would wait until no other thread makes pages.
    assert set(advised) == {memory_module._POPULATE_WRITE}


@linux
def test_results_of_a_few_mebibytes_show_which_kind_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads take pieces of two MiB of them, and no whole piece is ever made."""
    kinds = memory_module._Kinds()
    monkeypatch.setattr(memory_module, "_kinds", kinds)
    part = memory_module._HUGE
    for _ in range(2):
        memory = new_memory(8 << 20)
        first = -memory.ctypes.data % part
        for begin in range(first, len(memory) - part + 1, part):
            populate(memory[begin : begin + part])
    assert set(kinds._seconds) == {True, False}


@linux
def test_workers_make_the_pages_of_their_part_alone() -> None:
    memory = new_memory(256 << 20)
    words = memory.view(np.uint32)
    words[-1] = 5
    before = resident_bytes()
    populate(words[len(words) // 2 :])
    made = resident_bytes() - before
    assert 120 << 20 < made < 140 << 20
    assert words[-1] == 5
    assert not words[:-1].any()


def test_memory_of_others_is_left_alone() -> None:
    own = np.zeros(1 << 20, dtype=np.float32)
    own[7] = 1
    before = own.copy()
    for array in (own, own[1:], own[:0], np.frombuffer(bytes(1 << 20), dtype=np.uint8)):
        populate(array)
    assert np.array_equal(own, before)


OLD_SYSTEM = """
import ctypes, re, struct, sys
from pathlib import Path
import numpy as np

# A filter of system calls (seccomp(2)): madvise with advice 23 fails with EINVAL (22).
LOAD, EQUAL, RETURN, MADVISE = 0x20, 0x15, 0x06, int(sys.argv[1])
steps = [
    (LOAD, 0, 0, 0), (EQUAL, 0, 3, MADVISE), (LOAD, 0, 0, 32), (EQUAL, 0, 1, 23),
    (RETURN, 0, 0, 0x00050000 | 22), (RETURN, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
system = ctypes.CDLL(None)
assert system.prctl(38, 1, 0, 0, 0) == 0
assert system.prctl(22, 2, program) == 0

from initcore.machine import new_memory, populate

memory = new_memory(256 << 20)
for at in range(0, memory.size, 8 << 20):
    populate(memory[at : at + (8 << 20)])
    memory[at : at + (8 << 20)] = 3
assert memory.min() == 3
begin, end, mappings, inside = memory.ctypes.data, memory.ctypes.data + memory.size, [], False
for line in Path("/proc/self/smaps").read_text().splitlines():
    if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
        inside = int(found[1], 16) < end and int(found[2], 16) > begin
    elif inside and line.startswith("VmFlags:"):
        mappings.append(set(line.split()[1:]) & {"hg", "nh"})
print(mappings)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the filter knows the number of one system call",
)
def test_a_system_that_cannot_make_pages_chooses_their_kind() -> None:
    number = {"x86_64": "28", "aarch64": "233"}[platform.machine()]
    done = subprocess.run(
        [sys.executable, "-c", OLD_SYSTEM, number], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "[{'hg'}]\n"), done.stderr
