"""Blocks of mounted files in memory: shared by readers, made ahead, made again after an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from initclient._commands._mount.blocks import Blocks
from initclient._machine import Machine, Task, running_on


def test_readers_of_one_block_share_its_computation() -> None:
    made: list[int] = []
    begin = threading.Barrier(8)
    blocks = Blocks(most=4, ahead=0)

    def make(index: int) -> memoryview:
        made.append(index)
        time.sleep(0.05)
        return memoryview(bytes([index]))

    def read(_: int) -> bytes:
        begin.wait()
        return bytes(blocks.read("file", 3, 9, make))

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(read, range(8))) == {b"\3"}
    assert made == [3]


def test_a_sequential_reader_finds_the_next_blocks_made_and_others_pay_for_none() -> None:
    made: list[int] = []
    all_made = threading.Event()

    def make(index: int) -> memoryview:
        made.append(index)
        if len(made) == 4:
            all_made.set()
        return memoryview(b"")

    blocks = Blocks(most=8, ahead=2)
    blocks.read("file", 0, 9, make)
    blocks.read("file", 1, 9, make)
    assert all_made.wait(30)
    assert sorted(made) == [0, 1, 2, 3]
    blocks.read("file", 7, 9, make)
    # Also those that have not been made yet.
    assert sorted(index for _, index in blocks._blocks) == sorted(made) == [0, 1, 2, 3, 7]


def test_a_failed_block_is_made_again_and_memory_is_bounded() -> None:
    failures = [OSError("no server"), None]
    alive: list[int] = []

    def make(index: int) -> memoryview:
        alive.append(index)
        if failures and (failure := failures.pop(0)):
            raise failure
        return memoryview(bytes(1))

    blocks = Blocks(most=3, ahead=0)
    with pytest.raises(OSError, match="no server"):
        blocks.read("file", 5, 99, make)
    assert bytes(blocks.read("file", 5, 99, make)) == bytes(1)
    for index in range(6, 40):
        blocks.read("file", index, 99, make)
    assert len(blocks._blocks) == 3
    alive.clear()
    blocks.read("file", 39, 99, make)
    blocks.read("file", 5, 99, make)
    assert alive == [5]


def test_the_block_that_was_read_last_stays_and_blocks_ahead_fit() -> None:
    made: list[int] = []

    def make(index: int) -> memoryview:
        made.append(index)
        return memoryview(bytes(1))

    blocks = Blocks(most=2, ahead=0)
    for index in (3, 5, 3, 7, 3):
        blocks.read("file", index, 99, make)
    assert made == [3, 5, 7]
    blocks = Blocks(most=1, ahead=2)
    for index in (10, 20, 30, 40):
        blocks.read("file", index, 99, make)
    made.clear()
    for index in (10, 20, 30, 40):
        blocks.read("file", index, 99, make)
    assert len(made) == 0


class _WithoutThreads(Machine):
    """A machine on which no thread can be started, as at a container's limit."""

    def start(self, work: Callable[[], None], name: str) -> Task:
        raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_started_blocks_are_made_and_no_reader_waits_forever() -> None:
    blocks = Blocks(most=8, ahead=2)

    def make(index: int) -> memoryview:
        return memoryview(bytes([index]))

    with running_on(_WithoutThreads()):
        assert bytes(blocks.read("file", 0, 9, make)) == b"\0"
    assert all(block.done() for block in blocks._blocks.values())
    with ThreadPoolExecutor(1) as reader:
        assert bytes(reader.submit(blocks.read, "file", 2, 9, make).result(60)) == b"\2"
