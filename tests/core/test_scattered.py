"""Composed tensors whose elements lie one by one: the same bits, without a step for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import (
    Checkpoints,
    Plan,
    VirtualFile,
    constant,
    delta_orthogonal,
    dirac,
    eye,
    hadamard,
    layout,
    normal,
    orthogonal,
    sparse,
    uniform,
)
from initcore.backends import load
from initcore.generate.matrices import Matrix
from initcore.plan import MAX_DIMENSIONS
from initcore.plan.plan import Tensor
from numpy.typing import NDArray
from safetensors.numpy import save_file

Made = tuple[Tensor, NDArray[Any]]

BASES = (
    normal((24, 48)),
    uniform((3, 16, 24), a=-1.0),
    Tensor(scheme="normal", shape=(36, 32), zero_rows=(0, 7, 35)),
    orthogonal((24, 48), gain=2.0),
    orthogonal((48, 24)),
    sparse((32, 36), 0.4),
    eye((30, 40)),
    constant((40, 30), 2.5),
    dirac((16, 8, 3, 3), groups=2),
    hadamard((16, 8, 3, 3)),
    delta_orthogonal((16, 8, 3, 3)),
    delta_orthogonal((3, 3, 8, 16), layout="jax"),
)


def values(tensor: Tensor, name: str = "w", **more: Any) -> NDArray[Any]:
    file = VirtualFile(layout(Plan({name: tensor}, seed=3)), load("native"), **more)
    return file.array(file.layout.entries[0])


WHOLE = {number: values(base, f"base{number}") for number, base in enumerate(BASES)}


def permuted(made: Made, axes: list[int]) -> Made:
    tensor, array = made
    return Tensor(
        scheme="permute", shape=(), parts=(("p", tensor),), axes=tuple(axes)
    ), np.transpose(array, axes)


def one_by_one(number: int) -> Made:
    """A base with its elements in disorder: reversed dimensions, flattened, and once more."""
    base, array = BASES[number], WHOLE[number]
    tensor = Tensor(scheme="permute", shape=(), parts=((f"base{number}", base),), axes=tuple(
        reversed(range(array.ndim))
    ))  # fmt: skip
    return tensor, array.transpose()


@st.composite
def disorders(draw: st.DrawFn) -> Made:
    """Some bases, permuted, reshaped and joined until single elements are left."""
    number = draw(st.integers(0, len(BASES) - 1))
    made = one_by_one(number)
    for _ in range(draw(st.integers(1, 4))):
        tensor, array = made
        kind = draw(st.sampled_from(["permute", "reshape", "concatenate", "stack", "zero rows"]))
        if kind == "permute":
            made = permuted(made, draw(st.permutations(range(array.ndim))))
        elif kind == "reshape":
            size = array.size
            first = draw(st.sampled_from([d for d in (1, 2, 3, 4, 6, 8, 12, 24) if size % d == 0]))
            second = draw(st.sampled_from([d for d in (1, 2, 3, 8) if size // first % d == 0]))
            shape = (first, second, size // first // second)
            made = (
                Tensor(scheme="reshape", shape=shape, parts=(("p", tensor),)),
                array.reshape(shape),
            )
        elif kind == "zero rows" and tensor.zero_rows is None and array.shape[0] > 1:
            array = array.copy()
            array[[0, -1]] = 0
            made = (
                Tensor(
                    scheme=tensor.scheme,
                    shape=tensor.shape,
                    parts=tensor.parts,
                    axes=tensor.axes,
                    axis=tensor.axis,
                    zero_rows=(0, array.shape[0] - 1),
                ),
                array,
            )
        elif kind in ("concatenate", "stack"):
            axis = draw(st.integers(0, array.ndim - 1))
            parts = (("p", tensor), ("q", tensor))
            join = np.concatenate if kind == "concatenate" else np.stack
            made = (
                Tensor(scheme=kind, shape=(), parts=parts, axis=axis),
                join([array, array], axis),
            )
    return made


@settings(max_examples=60)
@given(disorders(), st.data())
def test_any_disorder_equals_that_of_the_whole(made: Made, data: st.DataObject) -> None:
    tensor, expected = made
    np.testing.assert_array_equal(values(tensor).view(np.uint32), as_words(expected))
    cut = []
    for size in expected.shape:
        start = data.draw(st.integers(0, size - 1))
        cut.append(slice(start, data.draw(st.integers(start + 1, size))))
    check_part(made, tuple(cut))
    check_part(*every_other(made))


def every_other(made: Made) -> tuple[Made, tuple[slice, ...]]:
    """Each second element of a tensor, as a part of its reshaped form: runs of one element."""
    tensor, array = made
    shape = (array.size // 2, 2)
    form = Tensor(scheme="reshape", shape=shape, parts=(("p", tensor),))
    return (form, array.reshape(shape)), (slice(None), slice(1, 2))


def check_part(made: Made, cut: tuple[slice, ...]) -> None:
    tensor, expected = made
    plan = Plan({"w": tensor}, seed=3).shard({"w": cut})
    file = VirtualFile(layout(plan), load("numpy"))
    part = file.array(file.layout.entries[0])
    np.testing.assert_array_equal(part.view(np.uint32), as_words(expected[cut]))
    entry = file.layout.entries[0]
    data = file.read(entry.begin, entry.end - entry.begin)
    needs = file.needs(entry.begin, entry.end - entry.begin)
    given = {key: matrix.make(None) for key, matrix in needs.items()}
    assert file.with_cache(Given(given)).read(entry.begin, entry.end - entry.begin) == data


class Given:
    """The matrices that were said to be needed, and no others."""

    def __init__(self, matrices: dict[Any, NDArray[Any]]) -> None:
        self._matrices = matrices

    def get(self, matrix: Matrix) -> NDArray[Any]:
        return self._matrices[matrix.key]


def as_words(array: NDArray[Any]) -> NDArray[np.uint32]:
    words: NDArray[np.uint32] = np.ascontiguousarray(array).view(np.uint32)
    return words


@pytest.mark.parametrize("number", range(len(BASES)))
def test_every_content_can_be_asked_for_element_by_element(number: int) -> None:
    check_part(*every_other(one_by_one(number)))


def test_a_checkpoint_is_read_in_any_order(tmp_path: Path) -> None:
    stored = np.arange(900, dtype=np.float32).reshape(30, 30)
    save_file({"w": stored}, tmp_path / "model.safetensors")
    kept = Tensor(scheme="pretrained", shape=(30, 30), checkpoint="model.safetensors")
    turned = Tensor(scheme="permute", shape=(), axes=(1, 0), parts=(("w", kept),))
    pairs = Tensor(scheme="reshape", shape=(450, 2), parts=(("w", turned),))
    plan = Plan({"w": pairs}).shard({"w": (slice(None), slice(1, 2))})
    file = VirtualFile(layout(plan), load("numpy"), checkpoints=Checkpoints(tmp_path))
    found = file.array(file.layout.entries[0])
    np.testing.assert_array_equal(found, stored.transpose().reshape(450, 2)[:, 1:])


def test_a_chunk_of_bits_reversed_again_and_again_has_few_steps() -> None:
    """Depth 8, up to forty dimensions, single elements: a step for each would take an hour."""
    dimensions = min(40, MAX_DIMENSIONS)
    shape = (2,) * dimensions
    tensor = normal(shape, dtype="F8_E4M3")
    for level in range(8):
        axes = (*range(1, dimensions, 2), *range(0, dimensions, 2))
        scheme, more = ("permute", {"axes": axes}) if level % 2 else ("reshape", {})
        form: dict[str, Any] = {"scheme": scheme, "dtype": "F8_E4M3", **more}
        tensor = Tensor(shape=shape if level % 2 == 0 else (), parts=(("p", tensor),), **form)
    file = VirtualFile(layout(Plan({"w": tensor})), load("native"))
    calls = 0

    def pulse() -> None:
        nonlocal calls
        calls += 1

    count = 1 << 18
    data = file.with_cache(file._generator.cache, pulse).read(file.layout.data_begin, count)
    assert 0 < calls < 100
    assert len(data) == count
    # A few bytes alone are made box by box.
    for at in range(0, count, count // 20 + 1):
        assert data[at : at + 3] == file.read(file.layout.data_begin + at, 3)[: count - at]
