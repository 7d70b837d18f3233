"""Small tensors filled together have the bits that each has alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Plan, VirtualFile, layout
from initcore.backends import NumpyBackend, load
from initcore.dtypes import DTYPES
from initcore.generate import Together
from initcore.plan import builders as ic
from initcore.stream import VALUE, Job, NormalDraw, Pieces, Runs, Stream, UniformDraw, derive
from initcore.stream.keys import derive_all

from tests import native_targets, plans

STREAMS = np.arange(400, dtype=np.uint32).reshape(100, 4) * np.uint32(0x9E3779B9)


def small_tensors() -> Plan:
    """Kinds that repeat, and tensors that must not be taken for one another."""
    tensors: dict[str, Any] = {}
    for layer in range(30):
        tensors[f"{layer}.up"] = ic.normal((7, 9), std=0.5, dtype="bf16")
        tensors[f"{layer}.down"] = ic.normal((9, 7), std=0.5, dtype="bf16")
        tensors[f"{layer}.wide"] = ic.normal((7, 9), std=0.5, dtype="f64")
        tensors[f"{layer}.bias"] = ic.zeros((9,))
        tensors[f"{layer}.seeded"] = ic.uniform((5,), dtype="f8_e4m3", seed=layer % 3)
        tensors[f"{layer}.stream"] = ic.uniform((5,), dtype="f16", stream="one")
        tensors[f"{layer}.padded"] = ic.normal((4, 3), zero_rows=(layer % 4,))
        tensors[f"{layer}.none"] = ic.normal((0, 3))
        tensors[f"{layer}.scalar"] = ic.trunc_normal(())
    return Plan(tensors, seed=5)


def reference(plan: Plan) -> bytes:
    file = VirtualFile(layout(plan), NumpyBackend())
    return bytes(file.read(0, file.size))


def test_streams_of_many_names_are_those_of_each() -> None:
    names = ["", "w", "größe 😀", "layers.0.weight" * 9]
    for seed in (0, 7, 2**64 - 1):
        expected = [list(derive(VALUE, seed, name)) for name in names]
        assert derive_all(VALUE, seed, names).tolist() == expected
    assert derive_all(VALUE, 1, []).shape == (0, 4)


@pytest.mark.parametrize("name", native_targets.NAMES)
@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.integers(1, 5),
            st.integers(1, 5000),
            st.sampled_from(["F64", "F32", "BF16", "F16", "F8_E5M2"]),
            st.sampled_from([NormalDraw(0.5, 3.0), UniformDraw(0.25, 0.5, -0.25, 0.7)]),
        ),
        max_size=6,
    )
)
def test_pieces_are_the_jobs_one_by_one(name: str, kinds: list[Any]) -> None:
    pieces, found, expected = [], [], []
    for count, rows, length, dtype, draw in kinds:
        runs = Runs(np.arange(rows, dtype=np.uint64) * np.uint64(2**33 - 5), length)
        outs = np.zeros((count, runs.count), dtype=DTYPES[dtype].storage)
        pieces.append(
            Pieces(
                draw,
                dtype,
                runs,
                STREAMS[:count],
                np.array([row.ctypes.data for row in outs], dtype=np.uintp),
            )
        )
        found.append(outs)
        alone = np.empty_like(outs)
        for stream, row in zip(STREAMS[:count].tolist(), alone, strict=True):
            NumpyBackend().fill(Job(draw, Stream(*stream), dtype), runs, row)
        expected.append(alone)
    if pieces:
        native_targets.target(name).fill_pieces(pieces)
    assert [one.tobytes() for one in found] == [one.tobytes() for one in expected]


@pytest.mark.parametrize("threads", ["1", "2", "7"])
def test_threads_share_tensors_of_any_sizes(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INITSERVE_THREADS", threads)
    sizes = [200_000, 1, 5, 262_144, *[900] * 400, 150_000, 262_144, 3]
    plan = Plan({f"w{i}": ic.normal((size,), dtype="bf16") for i, size in enumerate(sizes)})
    file = VirtualFile(layout(plan), load("native"))
    assert bytes(file.read(0, file.size)) == reference(plan)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("plan", [small_tensors(), plans.every_scheme()], ids=["small", "schemes"])
def test_arrays_filled_together_are_those_filled_alone(backend: str, plan: Plan) -> None:
    laid_out = layout(plan)
    file = VirtualFile(laid_out, load(backend))
    made = [
        (entry, np.zeros(entry.tensor.count, entry.tensor.dtype.storage))
        for entry in laid_out.entries
    ]
    file.fill_all(made)
    expected = reference(plan)
    for entry, values in made:
        assert values.tobytes() == expected[entry.begin : entry.end], entry.tensor.name


def test_slices_of_small_tensors_are_filled_together_too() -> None:
    plan = Plan({f"w{i}": ic.normal((40, 30), std=0.5) for i in range(20)}, 3)
    part = {f"w{i}": (slice(i % 3, 20), slice(5, 6 + i % 2)) for i in range(20)}
    shards = plan.shard(part)
    file = VirtualFile(layout(shards), load("native"))
    assert bytes(file.read(0, file.size)) == reference(shards)


@settings(max_examples=30)
@given(st.data())
def test_any_range_of_a_file_of_small_tensors(data: st.DataObject) -> None:
    plan = small_tensors()
    file, expected = VirtualFile(layout(plan), load("native")), reference(plan)
    begin = data.draw(st.integers(0, file.size))
    length = data.draw(st.integers(0, file.size - begin))
    assert bytes(file.read(begin, length)) == expected[begin : begin + length]


def test_what_is_no_small_draw_is_filled_alone() -> None:
    together = Together(load("native"))
    cases = {
        "constant": ic.zeros((3,)),
        "zero_rows": ic.normal((3, 2), zero_rows=(1,)),
        "empty": ic.normal((0,)),
        "large": ic.normal((1 << 19,)),
    }
    for entry in layout(Plan(cases)).entries:
        out = np.empty(entry.tensor.count, entry.tensor.dtype.storage)
        assert not together.add(entry.tensor, out), entry.tensor.name
        assert not Together(NumpyBackend()).add(entry.tensor, out)
    together.fill()


UNFIT: dict[str, Any] = {
    "short": lambda memory: memory[:99],
    "long": lambda memory: memory[:101],
    "big-endian": lambda memory: memory[:100].view(">f4"),
    "every second": lambda memory: memory[:200:2],
    "unaligned": lambda memory: memory.view(np.uint8)[1:401].view(np.float32),
    "read-only": lambda memory: np.frombuffer(memory.tobytes(), np.float32)[:100],
    "narrow": lambda memory: memory.view(np.float16)[:100],
    "shaped": lambda memory: memory[:100].reshape(10, 10),
}


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("case", UNFIT)
def test_arrays_that_do_not_fit_are_refused_before_a_byte_is_written(
    case: str, alone: bool, backend: str
) -> None:
    file = VirtualFile(layout(Plan({"w": ic.normal((100,))})), load(backend))
    (entry,) = file.layout.entries
    memory = np.zeros(400, dtype=np.float32)
    out = UNFIT[case](memory)
    before = out.tobytes()
    if alone and case == "short":
        file.fill(entry, out)
        assert out.all()
        assert not memory[99:].any()
        return
    with pytest.raises(ValueError, match=r"^w: the array is .* elements.* in <f4$"):
        file.fill(entry, out) if alone else file.fill_all([(entry, out)])
    assert out.tobytes() == before
    assert not memory.any()


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 101), (50, 51), (100, 1), (101, 0)])
def test_a_part_lies_within_the_tensor(first: int, count: int) -> None:
    file = VirtualFile(layout(Plan({"w": ic.normal((100,))})), load("native"))
    with pytest.raises(ValueError, match=f"^w: the array is .* elements from {first} in <f4$"):
        file.fill(file.layout.entries[0], np.zeros(count, np.float32), first=first)
