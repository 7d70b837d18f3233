"""Constants, and the zeros between the points of a lattice: every byte, and no byte beside them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from initcore import Plan, VirtualFile, constant, eye, layout, zeros
from initcore.backends import ConstantsBackend, load
from numpy.typing import NDArray

from tests.native_targets import NAMES, target

# Around each end of the memory that is set.
GUARD = 130

PATTERNS = st.sampled_from([1, 2, 4, 8]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
)


def guarded(pattern: bytes, count: int, begin: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Memory of other bytes, aligned for a cache line; `count` elements of it, from the
    `begin`-th element of a line."""
    item = len(pattern)
    other = (pattern[0] + 1) % 256
    memory = np.full(count * item + 2 * GUARD + 128 + 64 * item, other, dtype=np.uint8)
    first = -(memory.ctypes.data + GUARD) % 64 + GUARD + begin * item
    return memory, memory[first : first + count * item].view(f"u{item}")


def assert_set(name: str, pattern: bytes, count: int, begin: int) -> None:
    memory, inside = guarded(pattern, count, begin)
    target(name).fill_constant(pattern, inside)
    assert inside.tobytes() == pattern * count
    others = memory.size - inside.nbytes
    assert (
        np.count_nonzero(memory == (pattern[0] + 1) % 256)
        - inside.tobytes().count((pattern[0] + 1) % 256)
        == others
    ), "a byte beside them"


@pytest.mark.parametrize("name", NAMES)
@given(pattern=PATTERNS, count=st.integers(0, 600), begin=st.integers(0, 63))
@example(pattern=b"\x01\x02\x03\x04\x05\x06\x07\x08", count=8, begin=0)
@example(pattern=b"\x01\x02", count=1, begin=31)
def test_each_target_sets_the_elements_and_nothing_else(
    name: str, pattern: bytes, count: int, begin: int
) -> None:
    assert_set(name, pattern, count, begin)


@pytest.mark.parametrize("pattern", [bytes(1), bytes(2), bytes(4), bytes(8), b"\x00\x80", b"abcd"])
@pytest.mark.parametrize("mebibytes", [1, 3, 17])
@pytest.mark.parametrize("name", NAMES)
def test_much_memory_is_set_to_its_last_byte(name: str, mebibytes: int, pattern: bytes) -> None:
    """Zeros are made in another way than other values, and by several threads."""
    for begin, more in ((0, 0), (3, -5), (7, 9)):
        assert_set(name, pattern, (mebibytes << 20) // len(pattern) + more, begin)


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("backend", ["native", "numpy"])
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f64", "f8_e4m3"])
def test_large_constants_are_the_same_on_any_number_of_threads(
    dtype: str, backend: str, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", threads)
    size = (17 << 20) + 5
    plan = Plan({"w": constant((size,), -0.75, dtype=dtype), "e": eye((1500, 3001), dtype=dtype)})
    laid_out = layout(plan)
    file = VirtualFile(laid_out, load(backend))
    one, lattice = (file.array(entry) for entry in laid_out.entries)
    assert one.shape == (size,)
    assert (one.view(f"u{one.itemsize}") == one[:1].view(f"u{one.itemsize}")).all()
    assert float(one[0]) == -0.75
    expected = np.eye(1500, 3001, dtype=np.float32).astype(lattice.dtype)
    assert lattice.tobytes() == expected.tobytes()


def test_the_native_library_sets_large_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    native = load("native")
    assert isinstance(native, ConstantsBackend)
    sizes: list[int] = []
    unchanged = type(native).fill_constant

    def seen(self: Any, pattern: bytes, out: NDArray[Any]) -> None:
        sizes.append(out.nbytes)
        unchanged(self, pattern, out)

    monkeypatch.setattr(type(native), "fill_constant", seen)
    large, small = 1 << 18, 100
    laid_out = layout(Plan({"large": zeros((large,)), "small": zeros((small,))}))
    file = VirtualFile(laid_out, native)
    for entry in laid_out.entries:
        assert not file.array(entry).any()
    assert sizes == [4 * large]


def test_patterns_are_little_endian_as_the_machine_is() -> None:
    assert sys.byteorder == "little"
    out = np.empty(3, dtype=np.uint32)
    target(NAMES[0]).fill_constant(b"\x04\x03\x02\x01", out)
    assert out.tolist() == [0x01020304] * 3
