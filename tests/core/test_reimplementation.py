"""The product has the bits of docs/stream-v1.md, as tests/reimplementation makes them from it.

The reimplementation shares no code with the product, and no way of computing either: it is plain
Python, integers and fractions where the product has NumPy. What agrees here is what the page says.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from initcore import Plan, Tensor, VirtualFile, layout
from initcore.backends import load
from initcore.generate.haar import haar_columns
from initcore.stream.normal_cdf import scaled_normal_cdf
from initcore.stream.quantile import normal_quantile
from initcore.stream.rounding import encode_samples, encode_scalar, fits

from tests import plans
from tests.reimplementation import file_v1, orthogonal_v1, samples_v1

U32 = st.integers(0, 2**32 - 1)
F32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def as_data(plan: Plan) -> dict[str, Any]:
    """A plan in the form that the reimplementation takes."""
    tensors = [_tensor_data(name, tensor) for name, tensor in plan.tensors.items()]
    return {"seed": plan.seed, "tensors": tensors}


def _tensor_data(name: str, tensor: Tensor) -> dict[str, Any]:
    arguments = tensor.given()
    parts = arguments.pop("parts", ())
    entry: dict[str, Any] = {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scheme": tensor.scheme,
        "arguments": arguments,
    }
    if parts:
        entry["parts"] = [_tensor_data(part_name, part) for part_name, part in parts]
    if tensor.zero_rows:
        entry["zero_rows"] = list(tensor.zero_rows)
    if tensor.stream is not None:
        entry["stream"] = tensor.stream
    if tensor.seed is not None:
        entry["seed"] = tensor.seed
    if tensor.slices is not None:
        entry["slices"] = [
            [start or 0, size if stop is None else stop]
            for (start, stop), size in zip(tensor.slices, tensor.shape, strict=True)
        ]
    return entry


def product_bytes(plan: Plan) -> bytes:
    file = VirtualFile(layout(plan), load("numpy"))
    return bytes(file.read(0, file.size))


def assert_same_file(plan: Plan) -> None:
    """As a comparison of the whole files, but it names the tensor that differs."""
    actual, data = product_bytes(plan), as_data(plan)
    header = file_v1.header(data)
    position = len(header)
    assert actual[:position] == header  # the digest is in it
    for tensor in file_v1.data_order(data):
        content = file_v1.tensor_bytes(tensor, plan.seed)
        end = position + len(content)
        assert actual[position:end] == content, tensor["name"]
        position = end
    assert len(actual) == position


# ---- Whole files ----


@pytest.mark.parametrize("dtype", plans.FLOATS)
def test_every_scheme_in_every_element_type(dtype: str) -> None:
    assert_same_file(plans.every_scheme(7, dtype))


@pytest.mark.parametrize("dtype", plans.FLOATS)
def test_everything_that_later_releases_added(dtype: str) -> None:
    assert_same_file(plans.every_later_case(7, dtype))


def test_the_file_as_a_whole() -> None:
    plan = plans.every_scheme(2**64 - 1)
    assert product_bytes(plan) == file_v1.file_bytes(as_data(plan))


@settings(max_examples=60, deadline=None)
@given(plans.plans())
def test_any_plan(plan: Plan) -> None:
    assert_same_file(plan)


def test_names_with_characters_to_escape() -> None:
    names = ['"', "a\\b", "\x00\x1f\b\f\n\r\t", "\x7f\x80\u2028\ufeff/", "\u00e9\U0001f600", " "]
    tensors = {name: Tensor(scheme="normal", shape=(3,), stream=name * 2) for name in names}
    assert_same_file(Plan(tensors, 2**63))


def test_no_tensors_and_no_elements() -> None:
    assert_same_file(Plan({}, 1))
    shapes = [(0,), (0, 4), (4, 0), (2, 0, 3)]
    tensors = {f"{s}": Tensor(scheme="normal", shape=s) for s in shapes}
    for scheme in ("eye", "orthogonal", "xavier_normal", "he_uniform"):
        tensors |= {scheme + f"{s}": Tensor(scheme=scheme, shape=s) for s in shapes[1:3]}
    tensors["sparse"] = Tensor(scheme="sparse", shape=(0, 3), sparsity=0.5)
    assert_same_file(Plan(tensors))


def test_positions_beyond_32_bits() -> None:
    shape = (2**40 + 1, 2**20 - 1)
    tensors = {
        "normal": Tensor(scheme="normal", shape=shape),
        "eye": Tensor(scheme="eye", shape=(2**30 + 5, 2**30 - 3), dtype="BF16"),
        "fans": Tensor(scheme="kaiming_uniform", shape=(3**19, 5, 3**17), dtype="F16"),
    }
    cut = {
        "normal": (slice(2**39 + 1, 2**39 + 4), slice(5, 9)),
        "eye": (slice(2**30 - 6, 2**30 - 1), slice(2**30 - 6, 2**30 - 3)),
        "fans": (slice(3**19 - 2, 3**19), slice(1, 5), slice(3**17 - 1, 3**17)),
    }
    assert_same_file(Plan(tensors, 5).shard(cut))


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(scheme="uniform", shape=(99,), a=1.0, b=1.0),
        Tensor(scheme="uniform", shape=(99,), a=1.0, b=1.0000000001),
        Tensor(scheme="uniform", shape=(99,), a=2.0**24, b=2.0**24 + 4),
        Tensor(scheme="uniform", shape=(99,), a=-1e-44, b=1e-44),
        Tensor(scheme="uniform", shape=(99,), a=-3.4e38, b=3.4e38),
        Tensor(scheme="normal", shape=(99,), mean=-1.0, std=0.0),
        Tensor(scheme="normal", shape=(99,), mean=1e-44, std=1e-44),
        Tensor(scheme="trunc_normal", shape=(99,), a=-1e9, b=1e9),
        Tensor(scheme="trunc_normal", shape=(99,), a=4.0, b=9.0),
        Tensor(scheme="trunc_normal", shape=(99,), a=-9.0, b=-4.0),
        Tensor(scheme="trunc_normal", shape=(99,), mean=3.0, std=1e-40, a=-3.0, b=9.0),
        Tensor(scheme="trunc_normal", shape=(99,), a=0.1, b=0.1001),
        Tensor(scheme="constant", shape=(2,), val=2.0**64 - 2048, dtype="U64"),
        Tensor(scheme="constant", shape=(2,), val=-(2.0**63), dtype="I64"),
        Tensor(scheme="constant", shape=(2,), val=-128, dtype="I8"),
        Tensor(scheme="identity", shape=(3, 3), gain=-1.1, dtype="F16"),
        Tensor(scheme="sparse", shape=(40, 3), sparsity=1e-300),
        Tensor(scheme="sparse", shape=(40, 3), sparsity=1.0),
        Tensor(scheme="sparse", shape=(40, 3), sparsity=0.35, std=0.0),
        Tensor(scheme="dirac", shape=(4, 7, 2), groups=2),
        Tensor(scheme="orthogonal", shape=(7, 4), gain=-1.0),
        Tensor(scheme="orthogonal", shape=(7, 4), gain=-1e-44),
        Tensor(scheme="orthogonal", shape=(7, 4), gain=0.0),
        Tensor(scheme="delta_orthogonal", shape=(7, 4, 2), gain=-1.0, dtype="BF16"),
        Tensor(scheme="xavier_uniform", shape=(3, 4), gain=1e-45),
        # Zeros of either sign, given or by underflow.
        Tensor(scheme="xavier_uniform", shape=(3, 4), gain=0.0),
        Tensor(scheme="xavier_normal", shape=(3, 4), gain=-0.0),
        Tensor(scheme="uniform", shape=(99,), a=-0.0, b=-0.0),
        Tensor(scheme="uniform", shape=(99,), a=-1e-300, b=1e-300),
        Tensor(scheme="uniform", shape=(99,), a=-1e-300, b=1.5e-45),
        Tensor(scheme="uniform", shape=(99,), a=-1e-300, b=-0.0),
        Tensor(scheme="normal", shape=(99,), mean=-0.0, std=1e-45),
        Tensor(scheme="trunc_normal", shape=(99,), std=1e-45, a=-1e-300, b=1e-44),
        Tensor(scheme="trunc_normal", shape=(99,), mean=-0.0, std=1e-320, relative=True),
        Tensor(scheme="trunc_normal", shape=(99,), a=-1.0, b=-0.0),
        Tensor(scheme="sparse", shape=(9, 9), sparsity=-0.0, std=1e-45),
        Tensor(scheme="identity", shape=(3, 3), gain=-0.0),
        Tensor(scheme="orthogonal", shape=(7, 4), gain=-0.0),
        *(Tensor(scheme="constant", shape=(2,), dtype=t, val=-0.0) for t in plans.FLOATS),
        Tensor(scheme="constant", shape=(2,), dtype="BOOL", val=-0.0),
        Tensor(scheme="lecun_normal", shape=(2, 4, 3, 5), batch_axes=(-1, 0), layout="jax"),
    ],
    ids=repr,
)
def test_arguments_at_the_edge(tensor: Tensor) -> None:
    assert_same_file(Plan({"t": tensor}, 3))


# ---- Words and samples ----


@pytest.mark.parametrize(
    ("counter", "key", "output"),
    [
        ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter: str, key: str, output: str) -> None:
    c, k, o = (tuple(int(part, 16) for part in text.split()) for text in (counter, key, output))
    assert samples_v1.philox(c, (k[0], k[1])) == o


def test_z_at_the_words_on_the_page() -> None:
    page = {
        0x00000000: "-0x1.95a11ap+2",
        0x12345678: "-0x1.77b264p+0",
        0x7FFFFFFF: "-0x1.40d932p-32",
        0x80000000: "0x1.40d932p-32",
    }
    assert {word: samples_v1.z(word) for word in page} == {
        word: float.fromhex(text) for word, text in page.items()
    }


def test_the_example_at_the_top_of_the_page() -> None:
    words = samples_v1.Words("value", 7, "w")
    keys = [f"{number:08x}" for number in (words.d0, words.d1, words.d2, words.d3)]
    assert keys == ["c5987a4e", "f4fbfd4b", "777930f5", "9cb5a90f"]
    assert f"{words[3]:08x}" == "a65c46a7"
    assert samples_v1.normal(0.0, 1.0)(words[3]) == float.fromhex("0x1.8a2422p-2")
    file = product_bytes(Plan({"w": Tensor(scheme="normal", shape=(2, 3))}, seed=7))
    assert file[-12:-8] == struct.pack("<f", float.fromhex("0x1.8a2422p-2"))


def test_z_at_random_words_and_the_seams() -> None:
    words = random.Random(0).choices(range(2**32), k=10_000)
    seam = 0x80000000 + 0x7FFFFFFF - 0x5000000  # where the tail begins
    for centre in (0, seam, 2**32 - 1 - seam, 2**31, 2**32 - 1):
        words += [word for word in range(centre - 300, centre + 300) if 0 <= word < 2**32]
    for bits in range(31):  # tails of every size, around the changes of exponent
        words += [word for word in range(2**bits - 2, 2**bits + 2) if word >= 0]
        root = math.isqrt(2 ** (2 * bits + 1)) // 2
        words += range(max(root - 2, 0), root + 3)
    words += [2**32 - 1 - word for word in words]
    product = normal_quantile(np.array(words, dtype=np.uint32))
    assert product.tobytes() == b"".join(struct.pack("<f", samples_v1.z(word)) for word in words)


@settings(max_examples=300, deadline=None)
@given(st.floats(-9, 9) | st.floats(allow_nan=False, allow_infinity=False))
def test_phi_is_rounded_alike(x: float) -> None:
    assert scaled_normal_cdf(x) == samples_v1.phi_32(x)


def test_phi_far_out_and_in_the_middle() -> None:
    for x in (0.0, -0.0, 5e-324, 1e-10, 6.2, 6.34, 6.35, 7.999, 8.001, 40.0, 1e308, math.inf):
        for sign in (1, -1):
            assert scaled_normal_cdf(sign * x) == samples_v1.phi_32(sign * x)


# ---- Element types ----


@settings(max_examples=300, deadline=None)
@given(st.lists(F32 | F32.map(lambda x: math.ldexp(x, -120)), min_size=1, max_size=20))
def test_samples_are_rounded_alike(values: list[float]) -> None:
    for dtype in plans.FLOATS:
        kept = [samples_v1.f32(value) for value in values if fits(value, dtype)]
        encoded = encode_samples(np.array(kept, dtype=np.float32), dtype)
        assert encoded.tobytes() == b"".join(samples_v1.encode(value, dtype) for value in kept)


def test_every_number_of_the_small_types_and_the_ties_between_them() -> None:
    for dtype, width in (("F16", 10), ("BF16", 7), ("F8_E4M3", 3), ("F8_E5M2", 2)):
        for exponent in (-150, -134, -133, -126, -25, -24, -17, -16, -15, -14, -10, -9, -6, 0, 7):
            values = [math.ldexp(n, exponent - width - 1) for n in range(4 << width)]
            values += [-value for value in values]
            kept = [value for value in values if samples_v1.f32(value) == value]
            encoded = encode_samples(np.array(kept, dtype=np.float32), dtype)
            assert encoded.tobytes() == b"".join(samples_v1.encode(v, dtype) for v in kept)


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(-500, 500))
def test_constants_are_rounded_alike(value: float) -> None:
    for dtype in plans.FLOATS:
        if fits(value, dtype):
            assert encode_scalar(value, dtype) == samples_v1.encode(value, dtype)


# ---- Orthogonal ----


def test_every_small_matrix() -> None:
    shapes = itertools.product(range(1, 8), repeat=2)
    assert_same_file(Plan({f"{s}": Tensor(scheme="orthogonal", shape=s) for s in shapes}))


def assert_same_matrix(rows: list[list[float]]) -> None:
    """In f64: most of the bits where an error would show first are lost in an F32 file."""
    n, m = len(rows), len(rows[0])
    product = haar_columns(np.array(rows, dtype=np.float32))
    assert product.tobytes() == np.array(orthogonal_v1.haar(rows, m, n)).tobytes()


@pytest.mark.parametrize("shape", [(140, 130), (130, 12, 11)])
def test_orthogonal_of_more_than_one_block(shape: tuple[int, ...]) -> None:
    assert_same_file(Plan({"q": Tensor(scheme="orthogonal", shape=shape)}, 11))


@pytest.mark.parametrize(
    ("m", "n"), [(30, 30), (100, 40), (128, 128), (129, 129), (600, 3), (300, 140), (257, 257)]
)
def test_reflections_of_normals(m: int, n: int) -> None:
    words = samples_v1.Words("value", 5, f"{m} x {n}")
    assert_same_matrix([[samples_v1.z(words[j * m + i]) for i in range(m)] for j in range(n)])


ENTRIES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-18, -(2.0**-19), 3 * 2.0**-19, 6.5, -6.5])


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 8), st.integers(0, 8))
def test_reflections_that_no_seed_draws(data: st.DataObject, n: int, more: int) -> None:
    """Zero vectors, ties and zeros of either sign."""
    m = n + more
    row = st.lists(ENTRIES, min_size=m, max_size=m)
    assert_same_matrix(data.draw(st.lists(row | st.just([0.0] * m), min_size=n, max_size=n)))
