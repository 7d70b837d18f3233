"""Plans to test with: one tensor of every kind, and hypothesis strategies for any of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from initcore import (
    Plan,
    Tensor,
    apply,
    broadcast_to,
    concatenate,
    literal,
    norm,
    normal,
    permute,
    reshape,
    stack,
    uniform,
)
from initcore.dtypes import DTYPES
from initcore.plan.composed_builders import retyped
from initcore.plan.schemes import DISTRIBUTIONS, MODES, NONLINEARITIES, SCHEMES

FLOATS = [name for name, dtype in DTYPES.items() if dtype.kind == "float"]
INTEGERS = [name for name, dtype in DTYPES.items() if dtype.kind != "float"]

# Two cases a scheme where its arguments make different content; shapes small and uneven.
CASES: dict[str, Tensor] = {
    "uniform": Tensor(scheme="uniform", shape=(7, 5, 3), a=-0.25, b=0.75),
    "normal": Tensor(scheme="normal", shape=(9, 13), mean=0.5, std=0.125),
    "trunc_normal": Tensor(scheme="trunc_normal", shape=(11, 6), std=0.5, a=-0.75, b=1.0),
    "trunc_normal.relative": Tensor(
        scheme="trunc_normal", shape=(33,), mean=1.0, std=0.25, a=-1.0, b=3.0, relative=True
    ),
    "constant": Tensor(scheme="constant", shape=(3, 4), val=-0.375),
    "ones": Tensor(scheme="ones", shape=(5,)),
    "zeros": Tensor(scheme="zeros", shape=(2, 3)),
    "eye": Tensor(scheme="eye", shape=(5, 8)),
    "identity": Tensor(scheme="identity", shape=(6, 4), gain=0.5),
    "dirac": Tensor(scheme="dirac", shape=(6, 2, 3), groups=2),
    "dirac.3d": Tensor(scheme="dirac", shape=(4, 4, 2, 3, 3)),
    "xavier_uniform": Tensor(scheme="xavier_uniform", shape=(8, 6), gain=1.5),
    "xavier_normal": Tensor(scheme="xavier_normal", shape=(4, 6, 3, 3)),
    "kaiming_uniform": Tensor(scheme="kaiming_uniform", shape=(6, 10), a=5.0**0.5),
    "kaiming_normal": Tensor(
        scheme="kaiming_normal", shape=(8, 3, 5, 5), mode="fan_out", nonlinearity="relu"
    ),
    "orthogonal.tall": Tensor(scheme="orthogonal", shape=(12, 5), gain=0.75),
    "orthogonal.wide": Tensor(scheme="orthogonal", shape=(4, 3, 3)),
    "orthogonal.square": Tensor(scheme="orthogonal", shape=(9, 9)),
    "sparse": Tensor(scheme="sparse", shape=(10, 7), sparsity=0.3, std=0.02),
    "variance_scaling": Tensor(scheme="variance_scaling", shape=(6, 5, 2)),
    "variance_scaling.geo": Tensor(
        scheme="variance_scaling",
        shape=(3, 3, 4, 8),
        scale=2.0,
        mode="fan_geo_avg",
        distribution="uniform",
        layout="jax",
    ),
    "lecun_uniform": Tensor(scheme="lecun_uniform", shape=(5, 5)),
    "lecun_normal": Tensor(scheme="lecun_normal", shape=(4, 6, 5), batch_axes=(0,)),
    "glorot_uniform": Tensor(scheme="glorot_uniform", shape=(5, 7)),
    "glorot_normal": Tensor(scheme="glorot_normal", shape=(5, 7)),
    "he_uniform": Tensor(scheme="he_uniform", shape=(7, 3)),
    "he_normal": Tensor(scheme="he_normal", shape=(7, 3)),
    "delta_orthogonal": Tensor(scheme="delta_orthogonal", shape=(6, 4, 3, 3)),
    "delta_orthogonal.jax": Tensor(
        scheme="delta_orthogonal", shape=(3, 4, 6), gain=2.0, layout="jax"
    ),
}

_SMALL, _CONV = CASES["orthogonal.square"], CASES["kaiming_normal"]

COMPOSED_CASES: dict[str, Tensor] = {
    "concatenate": concatenate({"q": normal((4, 9)), "k": _SMALL, "v": normal((3, 9), seed=3)}),
    "concatenate.columns": concatenate(
        {"a": CASES["sparse"], "b": normal((10, 2), stream="other")}, axis=-1
    ),
    "stack": stack({f"experts.{i}": CASES["xavier_uniform"] for i in range(3)}),
    "stack.last": stack({"a": CASES["normal"], "b": CASES["normal"]}, axis=-1, seed=5),
    "permute": permute({"fc": CASES["kaiming_uniform"]}, (1, 0)),
    "permute.convolution": permute({"conv": _CONV}, (2, 3, 1, 0)),
    "reshape": reshape((6, 4, 5, 5), {"conv": _CONV}),
    "reshape.nested": reshape(
        (5, 2, 60), {"n": permute({"conv": _CONV}, (3, 1, 0, 2))}, zero_rows=(3,)
    ),
    "hadamard": Tensor(scheme="hadamard", shape=(12, 5), gain=0.75),
    "hadamard.narrowing": Tensor(scheme="hadamard", shape=(4, 7)),
    "hadamard.convolution": Tensor(scheme="hadamard", shape=(5, 3, 3, 2)),
    "zero_rows": Tensor(scheme="normal", shape=(7, 3), zero_rows=(0, 5)),
    "zero_rows.matrix": Tensor(scheme="orthogonal", shape=(7, 3), zero_rows=(6,)),
}
"""What version 0.2.0 added: tensors made of others, zero rows, Hadamard matrices.

New cases go to the end: the number of a case is the seed of its golden vectors.
"""

_ROW = literal((1, 7), [0.5, -1.25, 3, 1 / 3, 0, 1e-3, 100])
_RATE = uniform((40,), 1e-3, 0.1)

DERIVED_CASES: dict[str, Tensor] = {
    "literal": literal((3, 2), [[1, -2.5], [0.1, 7], [-0.0, 1e-4]]),
    "literal.row": _ROW,
    "literal.scalar": literal((), 0.3),
    "broadcast_to": broadcast_to((3, 5, 7), {"row": _ROW}),
    "broadcast_to.drawn": broadcast_to((4, 6, 3, 9), {"w": normal((6, 1, 9))}, seed=11),
    "broadcast_to.matrix": broadcast_to((2, 9, 9), {"w": _SMALL}, zero_rows=(1,)),
    "apply.exp": apply({"x": normal((5, 8), std=0.75)}, "exp"),
    "apply.expm1": apply({"x": normal((5, 8), std=0.5)}, "expm1"),
    "apply.log": apply({"A": uniform((24,), 1, 16)}, "log"),
    "apply.log1p": apply({"x": uniform((24,), -0.5, 3)}, "log1p"),
    "apply.sqrt": apply({"x": uniform((24,), 0, 3)}, "sqrt"),
    "apply.square": apply({"x": normal((24,))}, "square"),
    "apply.reciprocal": apply({"x": uniform((24,), 1, 3)}, "reciprocal"),
    "apply.abs": apply({"x": normal((24,))}, "abs"),
    "apply.add": apply({"x": normal((24,))}, "add", 1.5),
    "apply.multiply": apply({"x": normal((24,))}, "multiply", -0.3),
    "apply.clamp": apply({"x": normal((4, 24))}, "clamp", -0.5, 1),
    "apply.clamp_low": apply({"x": normal((24,))}, "clamp", a=0),
    "apply.softplus": apply({"x": normal((24,), std=4)}, "softplus"),
    "apply.inverse_softplus": apply({"dt": _RATE}, "inverse_softplus"),
    "apply.nested": apply(
        {"c": apply({"b": apply({"a": uniform((40,), -7, -2)}, "exp")}, "clamp", 1e-3)},
        "inverse_softplus",
    ),
    "apply.composed": apply(
        {"w": stack({"a": _SMALL, "b": normal((9, 9), mean=1)})},
        "square",
        zero_rows=(0,),
    ),
    "norm": norm({"v": normal((6, 4, 3))}, axes=(0,)),
    "norm.last": norm({"v": normal((6, 4, 3), zero_rows=(2,))}, axes=(-1,)),
    "norm.all": norm({"v": _SMALL}),
    "norm.large": norm({"v": normal((2, 70_000), std=0.125)}, axes=0),
    "norm.composed": norm(
        {"v": concatenate({"q": normal((4, 5)), "k": normal((2, 5))})}, axes=(0, 1)
    ),
}
"""What version 0.3.0 added: literal values, and tensors computed from others.

New cases go to the end, as above.
"""

LATER_CASES: dict[str, dict[str, Tensor]] = {
    "composed": COMPOSED_CASES,
    "derived": DERIVED_CASES,
}
"""What each release after the first added, by its folder in tests/golden."""


def every_scheme(seed: int = 7, dtype: str = "F32") -> Plan:
    """A plan with all cases in one floating element type, and the integer types as constants."""
    tensors = {name: _with(tensor, dtype) for name, tensor in CASES.items()}
    for name in INTEGERS:
        tensors[f"constant.{name}"] = Tensor(scheme="constant", shape=(3,), dtype=name, val=1)
    return Plan(tensors, seed)


def every_later_case(seed: int = 7, dtype: str = "F32") -> Plan:
    """A plan with all cases that later releases added, in one floating element type."""
    later = {name: tensor for cases in LATER_CASES.values() for name, tensor in cases.items()}
    return Plan({name: retyped(tensor, dtype) for name, tensor in later.items()}, seed)


def _with(tensor: Tensor, dtype: str) -> Tensor:
    return replace(tensor, dtype=dtype)


@st.composite
def tensors(draw: st.DrawFn, scheme: str | None = None) -> Tensor:
    """Any valid tensor of at most a few thousand elements."""
    name = scheme or draw(st.sampled_from(sorted(name for name in SCHEMES if SCHEMES[name].draws)))
    # Now and then an empty axis, or one longer than a vector of any backend.
    dims = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 17, 40, 0])
    arguments: dict[str, Any] = {}
    matrix = draw(st.tuples(dims, dims))
    shape: tuple[int, ...] = draw(st.lists(dims, min_size=2, max_size=4).map(tuple))
    gain = st.sampled_from([1.0, 0.5, 1.25, 0.0])
    if name in ("uniform", "normal", "trunc_normal", "constant", "ones", "zeros"):
        shape = draw(st.lists(dims, min_size=0, max_size=4).map(tuple))
    if name == "uniform":
        arguments = {"a": draw(st.floats(-2, 0)), "b": draw(st.floats(0.125, 2))}
    elif name == "normal":
        arguments = {"mean": draw(st.floats(-1, 1)), "std": draw(st.floats(0, 2))}
    elif name == "trunc_normal":
        arguments = {"a": draw(st.floats(-3, -0.5)), "b": draw(st.floats(0, 3)), "std": 1.0}
        arguments["relative"] = draw(st.booleans())
    elif name == "constant":
        arguments = {"val": draw(st.floats(-400, 400))}
    elif name == "literal":
        shape = draw(st.lists(dims.filter(bool), min_size=0, max_size=2).map(tuple))
        size = math.prod(shape)
        numbers = st.lists(st.floats(-400, 400), min_size=size, max_size=size)
        arguments = {"values": tuple(draw(numbers))}
    elif name in ("eye", "identity", "sparse"):
        shape = matrix
        if name == "sparse":
            arguments = {"sparsity": draw(st.floats(0, 1)), "std": 0.25}
    elif name == "dirac":
        groups = draw(st.integers(1, 3))
        kernel = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        shape = (groups * draw(st.integers(1, 4)), draw(st.integers(1, 5)), *kernel)
        arguments = {"groups": groups}
    elif name == "delta_orthogonal":
        low, high = sorted(matrix)
        kernel = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        layout = draw(st.sampled_from(["torch", "jax"]))
        shape = (high, low, *kernel) if layout == "torch" else (*kernel, low, high)
        arguments = {"layout": layout}
    elif name.startswith("kaiming"):
        arguments = {
            "a": draw(st.floats(0, 3)),
            "mode": draw(st.sampled_from(["fan_in", "fan_out"])),
            "nonlinearity": draw(st.sampled_from(NONLINEARITIES)),
        }
    elif name == "variance_scaling":
        arguments = {
            "scale": draw(st.floats(0.125, 3)),
            "mode": draw(st.sampled_from(MODES)),
            "distribution": draw(st.sampled_from(DISTRIBUTIONS)),
        }
    if "gain" in SCHEMES[name].arguments:
        arguments["gain"] = draw(gain)
    if SCHEMES[name].has_fans:
        arguments["layout"] = draw(st.sampled_from(["torch", "jax"]))
        if len(shape) > 2:
            arguments["batch_axes"] = draw(
                st.sampled_from([(), (0,), (len(shape) - 1,), (-1,), (1,)])
            )
    dtype = draw(st.sampled_from(FLOATS))
    if name in ("ones", "zeros"):
        dtype = draw(st.sampled_from(FLOATS + INTEGERS))
    own_seed = draw(st.none() | st.integers(0, 2**64 - 1))
    stream = draw(st.none() | st.text(min_size=1, max_size=5).filter(_encodes))
    return Tensor(scheme=name, shape=shape, dtype=dtype, seed=own_seed, stream=stream, **arguments)


@st.composite
def composed(draw: st.DrawFn, depth: int = 2) -> Tensor:
    """Any valid tensor made of others, which may be made of others."""
    inner = tensors() if depth == 1 else tensors() | composed(depth - 1)
    first = draw(inner)
    names = st.text(min_size=1, max_size=5).filter(_encodes)
    parts = [(draw(names.filter(lambda text: text != "__metadata__")), first)]
    kinds = ["stack", "reshape", "broadcast_to"]
    kinds += ["permute", "concatenate"] if first.shape else []
    kinds += ["apply", "norm"] if first.dtype in FLOATS else []
    kind = draw(st.sampled_from(kinds))
    if kind in ("stack", "concatenate"):
        for number in range(draw(st.integers(0, 2))):
            scheme = (
                "ones" if first.dtype in INTEGERS else draw(st.sampled_from(["normal", "ones"]))
            )
            parts.append(
                (f"more.{number}", Tensor(scheme=scheme, shape=first.shape, dtype=first.dtype))
            )
    ndim = len(first.shape)
    own_seed = draw(st.none() | st.integers(0, 2**64 - 1))
    common: Any = {} if own_seed is None else {"seed": own_seed}
    if kind == "stack":
        return stack(parts, draw(st.integers(-ndim - 1, ndim)), **common)
    if kind == "concatenate":
        return concatenate(parts, draw(st.integers(-ndim, ndim - 1)), **common)
    if kind == "broadcast_to":
        more = draw(st.lists(st.integers(0, 3), max_size=2))
        return broadcast_to((*more, *first.shape), parts, **common)
    if kind == "apply":
        inside = [("inside", apply(parts, "clamp", -2.0, 2.0))]
        function = draw(st.sampled_from(["exp", "expm1", "softplus", "square", "abs"]))
        return apply(inside, function, **common)
    if kind == "norm":
        # Within the largest value of any type.
        inside = [("inside", apply(parts, "clamp", -0.5, 0.5))]
        return norm(
            inside, draw(st.sets(st.integers(0, ndim - 1)) if ndim else st.just(())), **common
        )
    if kind == "permute":
        return permute(parts, draw(st.permutations(range(ndim))), **common)
    return reshape(draw(_shapes_of(first.shape)), parts, **common)


@st.composite
def _shapes_of(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Another shape with as many elements."""
    left, sizes = math.prod(shape), []
    while left > 1:
        size = draw(st.sampled_from([n for n in range(2, left + 1) if left % n == 0]))
        sizes.append(size)
        left //= size
    if left == 0:
        sizes.append(0)
    return tuple(draw(st.permutations([*sizes, *draw(st.lists(st.just(1), max_size=2))])))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@st.composite
def cuts(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Any rectangular part of a shape, empty ones among them."""
    parts = []
    for size in shape:
        start = draw(st.integers(0, size))
        parts.append(slice(start, draw(st.integers(start, size))))
    return tuple(parts)


def _with_zero_rows(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    if not tensor.shape or not tensor.shape[0] or draw(st.integers(0, 3)):
        return tensor
    rows = st.lists(st.integers(0, tensor.shape[0] - 1), max_size=3)
    return replace(tensor, zero_rows=tuple(draw(rows)))


@st.composite
def plans(draw: st.DrawFn, max_tensors: int = 4) -> Plan:
    """A plan of a few tensors, some of them cut."""
    names = draw(
        st.lists(
            st.text(min_size=1, max_size=8).filter(
                lambda text: _encodes(text) and text != "__metadata__"
            ),
            max_size=max_tensors,
            unique=True,
        )
    )
    any_tensor = tensors() | composed()
    made = {name: _with_zero_rows(draw, draw(any_tensor)) for name in names}
    plan = Plan(made, draw(st.integers(0, 2**64 - 1)))
    cut = {n: draw(cuts(plan.tensors[n].shape)) for n in names if draw(st.booleans())}
    return plan.shard(cut)
