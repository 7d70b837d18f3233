"""Every scheme is the distribution its source draws: torch.nn.init, jax.nn.initializers, scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch
from initcore import (
    Plan,
    Tensor,
    VirtualFile,
    calculate_gain,
    constant,
    delta_orthogonal,
    dirac,
    eye,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    identity,
    kaiming_normal,
    kaiming_uniform,
    layout,
    lecun_normal,
    lecun_uniform,
    normal,
    ones,
    orthogonal,
    sparse,
    trunc_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
    zeros,
)
from initcore.backends import load
from initcore.plan.gains import fans
from initcore.plan.schemes import NONLINEARITIES
from initcore.resolve.resolution import Resolved, resolve

# Seeds are fixed, so these tests cannot flicker; the level says how good a match is asked for.
LEVEL = 0.001
SHAPE = (96, 32, 5, 5)


def draw(tensor: Tensor, seed: int = 1) -> np.ndarray:
    laid_out = layout(Plan({"t": tensor}, seed))
    array = VirtualFile(laid_out, load("numpy")).array(laid_out.entries[0])
    return array.astype(np.float64)


def resolved(tensor: Tensor) -> Resolved:
    return resolve(Plan({"t": tensor}))[0]


def same_distribution(ours: np.ndarray, theirs: Any) -> None:
    test = scipy.stats.ks_2samp(ours.ravel(), np.asarray(theirs, dtype=np.float64).ravel())
    assert test.pvalue > LEVEL


INIT = torch.nn.init
IN_TORCH: dict[str, tuple[Tensor, Callable[[torch.Tensor], Any]]] = {
    "uniform": (uniform(SHAPE, -0.3, 0.9), lambda t: INIT.uniform_(t, -0.3, 0.9)),
    "normal": (normal(SHAPE, 0.1, 0.7), lambda t: INIT.normal_(t, 0.1, 0.7)),
    "trunc_normal": (
        trunc_normal(SHAPE, 0.1, 0.5, -0.4, 1.0),
        lambda t: INIT.trunc_normal_(t, 0.1, 0.5, -0.4, 1.0),
    ),
    "trunc_normal at 100 sigma": (
        trunc_normal(SHAPE, std=0.02),
        lambda t: INIT.trunc_normal_(t, std=0.02),
    ),
    "xavier_uniform": (xavier_uniform(SHAPE, 1.5), lambda t: INIT.xavier_uniform_(t, 1.5)),
    "xavier_normal": (xavier_normal(SHAPE, 0.5), lambda t: INIT.xavier_normal_(t, 0.5)),
    "kaiming_uniform": (
        kaiming_uniform(SHAPE, a=math.sqrt(5)),
        lambda t: INIT.kaiming_uniform_(t, a=math.sqrt(5)),
    ),
    "kaiming_normal": (
        kaiming_normal(SHAPE, mode="fan_out", nonlinearity="relu"),
        lambda t: INIT.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"),
    ),
}


@pytest.mark.parametrize("name", IN_TORCH)
def test_draws_what_torch_draws(name: str) -> None:
    tensor, fill = IN_TORCH[name]
    torch.manual_seed(0)
    theirs = torch.empty(SHAPE)
    fill(theirs)
    same_distribution(draw(tensor), theirs.numpy())


KERNEL = (5, 5, 32, 96)


def modes_of_jax() -> list[str]:
    """The modes that the installed JAX has: fan_geo_avg is newer than the oldest one we allow."""
    found = []
    for mode in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
        try:
            jax.nn.initializers.variance_scaling(1.0, mode, "normal")(jax.random.key(0), (2, 2))
        except ValueError:
            continue
        found.append(mode)
    assert len(found) >= 3
    return found


MODES_OF_JAX = modes_of_jax()

IN_JAX: dict[str, tuple[Tensor, Any]] = {
    "lecun_uniform": (lecun_uniform(KERNEL, layout="jax"), jax.nn.initializers.lecun_uniform()),
    "lecun_normal": (lecun_normal(KERNEL, layout="jax"), jax.nn.initializers.lecun_normal()),
    "glorot_uniform": (glorot_uniform(KERNEL, layout="jax"), jax.nn.initializers.glorot_uniform()),
    "glorot_normal": (glorot_normal(KERNEL, layout="jax"), jax.nn.initializers.glorot_normal()),
    "he_uniform": (he_uniform(KERNEL, layout="jax"), jax.nn.initializers.he_uniform()),
    "he_normal": (he_normal(KERNEL, layout="jax"), jax.nn.initializers.he_normal()),
    "batch axes": (
        lecun_normal(KERNEL, layout="jax", batch_axes=(0,)),
        jax.nn.initializers.lecun_normal(batch_axis=(0,)),
    ),
    "truncated_normal": (
        trunc_normal(KERNEL, std=0.3, a=-1.0, b=2.5, relative=True),
        jax.nn.initializers.truncated_normal(0.3, lower=-1.0, upper=2.5),
    ),
    **{
        f"variance_scaling {mode} {distribution}": (
            variance_scaling(KERNEL, 1.5, mode, distribution, layout="jax"),
            jax.nn.initializers.variance_scaling(1.5, mode, distribution),
        )
        for mode in MODES_OF_JAX
        for distribution in ("normal", "truncated_normal", "uniform")
    },
}


@pytest.mark.parametrize("name", IN_JAX)
def test_draws_what_jax_draws(name: str) -> None:
    tensor, initializer = IN_JAX[name]
    theirs = initializer(jax.random.key(0), tensor.shape, jnp.float32)
    same_distribution(draw(tensor), theirs)


def test_draws_scipys_distributions() -> None:
    shape = (1000, 1000)
    for tensor, exact in (
        (uniform(shape, 2.0, 3.0), scipy.stats.uniform(2.0, 1.0)),
        (normal(shape, -1.0, 0.25), scipy.stats.norm(-1.0, 0.25)),
        (trunc_normal(shape, a=0.5, b=3.0), scipy.stats.truncnorm(0.5, 3.0)),
    ):
        values = draw(tensor).ravel()
        assert scipy.stats.kstest(values, exact.cdf).pvalue > LEVEL
        assert values.mean() == pytest.approx(exact.mean(), abs=4e-3 * exact.std())


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_gains_equal_torchs(name: str) -> None:
    assert calculate_gain(name) == INIT.calculate_gain(name)
    assert calculate_gain(name, 0.2) == INIT.calculate_gain(name, 0.2)


def test_an_unknown_gain_has_torchs_words() -> None:
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
        calculate_gain("swish")
    with pytest.raises(ValueError, match="negative_slope True not a valid number"):
        calculate_gain("leaky_relu", True)


@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (64, 3, 7, 7), (5, 2, 3), (8, 1, 3, 3, 3)])
def test_fans_equal_torchs(shape: tuple[int, ...]) -> None:
    assert fans(shape) == INIT._calculate_fan_in_and_fan_out(torch.empty(shape))


def test_spreads_equal_torchs_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The std and the bounds, as torch hands them to its own normal_ and uniform_."""
    asked: list[tuple[float, float]] = []
    record = lambda self, low, high, generator=None: asked.append((low, high)) or self  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "normal_", record)
    monkeypatch.setattr(torch.Tensor, "uniform_", record)
    for shape in ((3, 4), (64, 3, 7, 7), (1000, 512), (7, 5, 3)):
        theirs = torch.empty(shape)
        for gain in (1.0, 0.7, 5 / 3):
            INIT.xavier_normal_(theirs, gain)
            parameters = resolved(xavier_normal(shape, gain)).parameters
            assert (parameters.mean, parameters.std) == asked[-1]
            INIT.xavier_uniform_(theirs, gain)
            parameters = resolved(xavier_uniform(shape, gain)).parameters
            assert (parameters.low, parameters.high) == asked[-1]
        for nonlinearity in NONLINEARITIES:
            for a, mode in ((0.0, "fan_in"), (0.3, "fan_out"), (math.sqrt(5), "fan_in")):
                INIT.kaiming_normal_(theirs, a, mode, nonlinearity)
                parameters = resolved(kaiming_normal(shape, a, mode, nonlinearity)).parameters
                assert (parameters.mean, parameters.std) == asked[-1]
                INIT.kaiming_uniform_(theirs, a, mode, nonlinearity)
                parameters = resolved(kaiming_uniform(shape, a, mode, nonlinearity)).parameters
                assert (parameters.low, parameters.high) == asked[-1]


def test_exact_schemes_equal_torchs() -> None:
    for shape in ((4, 4), (3, 7), (7, 3)):
        assert np.array_equal(draw(eye(shape)), INIT.eye_(torch.empty(shape)).numpy())
        assert np.array_equal(draw(identity(shape, 2.5)), 2.5 * np.eye(*shape))
    for shape, groups in (
        ((4, 4, 3), 1),
        ((4, 2, 3, 3), 2),
        ((6, 5, 2, 4), 3),
        ((2, 3, 1, 2, 3), 1),
        ((9, 2, 4), 3),
    ):
        theirs = INIT.dirac_(torch.empty(shape), groups).numpy()
        assert np.array_equal(draw(dirac(shape, groups)), theirs)
    assert (draw(ones((3, 2))) == 1).all()
    assert (draw(zeros((3, 2))) == 0).all()


@pytest.mark.parametrize(
    ("dtype", "theirs"),
    [
        ("F64", torch.float64),
        ("F32", torch.float32),
        ("F16", torch.float16),
        ("BF16", torch.bfloat16),
        ("F8_E4M3", torch.float8_e4m3fn),
        ("F8_E5M2", torch.float8_e5m2),
        ("I64", torch.int64),
        ("U8", torch.uint8),
    ],
)
@pytest.mark.parametrize("value", [0.0, 1.0, 3.0, 100.0])
def test_constants_equal_torchs(dtype: str, theirs: torch.dtype, value: float) -> None:
    expected = torch.empty(3, dtype=theirs)
    INIT.constant_(expected, value)
    assert np.array_equal(draw(constant((3,), value, dtype=dtype)), expected.double().numpy())


def test_a_constant_is_rounded_once() -> None:
    # 1 + 2^-8 + 2^-30 lies just above the middle of two bfloat16s; by way of float32 it would
    # first become the middle itself and then go to even, down.
    value = 1.0 + 2.0**-8 + 2.0**-30
    assert draw(constant((1,), value, dtype="BF16"))[0] == 1.0 + 2.0**-7


@pytest.mark.parametrize("shape", [(60, 60), (80, 30), (30, 80), (16, 4, 3, 3), (300, 260)])
@pytest.mark.parametrize("gain", [1.0, 1.75])
def test_orthogonal_has_orthonormal_rows_or_columns(shape: tuple[int, ...], gain: float) -> None:
    q = draw(orthogonal(shape, gain)).reshape(shape[0], -1)
    product = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    assert np.abs(product - gain**2 * np.eye(len(product))).max() < 1e-6


def test_orthogonal_is_haar_distributed() -> None:
    """Against scipy's Haar measure: entries, traces and the angles of the eigenvalues."""
    size, count = 4, 3000
    ours = np.stack([draw(orthogonal((size, size), stream=f"q{i}")) for i in range(count)])
    theirs = scipy.stats.ortho_group.rvs(size, count, random_state=0)
    for statistic in (
        lambda q: q[:, 0, 0],
        lambda q: q[:, 3, 3],
        lambda q: q[:, 1, 2] * q[:, 0, 3],
        lambda q: np.trace(q, axis1=1, axis2=2),
        lambda q: np.trace(q @ q, axis1=1, axis2=2),
        lambda q: np.angle(np.linalg.eigvals(q)).ravel(),
    ):
        same_distribution(statistic(ours), statistic(theirs))
    # ortho_group draws from all of O(n): both signs of the determinant are equally likely.
    assert abs((np.linalg.det(ours) > 0).mean() - 0.5) < 0.03


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (5, 4, 4), (4, 2, 3), (2, 4, 3, 4, 6)])
def test_delta_orthogonal_is_jaxs(shape: tuple[int, ...]) -> None:
    theirs = jax.nn.initializers.delta_orthogonal()(jax.random.key(0), shape, jnp.float32)
    ours = draw(delta_orthogonal(shape, layout="jax"))
    assert ((ours != 0).any(axis=(-1, -2)) == (theirs != 0).any(axis=(-1, -2))).all()
    matrix = ours.sum(axis=tuple(range(len(shape) - 2)))
    assert np.abs(matrix @ matrix.T - np.eye(shape[-2])).max() < 1e-6
    in_torch = draw(delta_orthogonal((shape[-1], shape[-2], *shape[:-2])))
    assert np.array_equal(np.moveaxis(in_torch, (0, 1), (-1, -2)), ours)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.999, 1.0])
def test_sparse_has_exact_counts_in_every_column(sparsity: float) -> None:
    shape = (101, 37)
    ours = draw(sparse(shape, sparsity, std=0.5))
    theirs = INIT.sparse_(torch.empty(shape), sparsity).numpy()
    assert np.array_equal((ours == 0).sum(axis=0), (theirs == 0).sum(axis=0))
    assert ((ours == 0).sum(axis=0) == math.ceil(sparsity * 101)).all()


def test_sparse_chooses_rows_evenly_and_draws_normals() -> None:
    values = draw(sparse((40, 20_000), 0.25, std=0.5))
    kept = values[values != 0]
    assert scipy.stats.kstest(kept, scipy.stats.norm(0, 0.5).cdf).pvalue > LEVEL
    counts = (values == 0).sum(axis=1)
    assert scipy.stats.chisquare(counts).pvalue > LEVEL


@pytest.mark.parametrize("dtype", ["F64", "F16", "BF16", "F8_E4M3", "F8_E5M2"])
def test_every_dtype_is_the_float32_sample_rounded_once(dtype: str) -> None:
    sample = torch.from_numpy(draw(normal((5000,), std=0.5)).astype(np.float32))
    names = {"F64": "float64", "F16": "float16", "BF16": "bfloat16"}
    names |= {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
    rounded = sample.to(getattr(torch, names[dtype])).double().numpy()
    assert np.array_equal(draw(normal((5000,), std=0.5, dtype=dtype)), rounded)


def test_uniform_stays_within_its_bounds() -> None:
    for a, b in ((0.0, 1.0), (1.0, 1.0 + 2**-22), (-1e-30, 1e30), (3.0, 3.0)):
        values = draw(uniform((200_000,), a, b))
        assert values.min() >= a
        assert values.max() < b or a == b


def test_truncated_values_stay_within_their_bounds() -> None:
    for mean, std, a, b in ((0, 1, -2, 2), (0, 0.02, -2, 2), (3, 1, 0, 1), (0, 1, 4.0, 4.5)):
        values = draw(trunc_normal((100_000,), mean, std, a, b))
        assert a <= values.min() <= values.max() <= b
        exact = scipy.stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)
        assert scipy.stats.kstest(values, exact.cdf).pvalue > LEVEL


def test_no_sample_is_a_negative_zero() -> None:
    """Which of two zeros min and max return is not the same everywhere."""
    for tensor in (
        uniform((1000,), -0.0, 1e-44),
        uniform((1000,), -1e-60, 1e-60),
        normal((1000,), -0.0, 1e-45),
        normal((1000,), -0.0, -0.0),
        trunc_normal((1000,), mean=-0.0, std=1e-30, a=-0.0, b=1.0),
    ):
        values = draw(tensor)
        assert not np.signbit(values[values == 0]).any()


def test_the_sign_of_a_constant_zero_is_kept() -> None:
    assert np.signbit(draw(constant((2,), -0.0, dtype="BF16"))).all()
    assert layout(Plan({"c": constant((2,), -0.0)})) != layout(Plan({"c": constant((2,), 0.0)}))
