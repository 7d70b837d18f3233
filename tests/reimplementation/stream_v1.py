"""The bit contract, written again from docs/stream-v1.md alone.

Slow and plain, with the standard library only. Sections in the comments are those of the page. A
plan is a dict: {"seed": 7, "tensors": [{"name": "w", "shape": [2, 3], "dtype": "F32",
"scheme": "normal", "arguments": {"std": 0.5}}]}; a tensor may have "stream", "seed" and "slices"
([[start, stop], ...]). Plans are taken as valid: what the product refuses is not refused here.

Sections 1 and 3 to 7 are in samples_v1.py, the mathematics of section 10 in orthogonal_v1.py,
sections 11 to 13 in file_v1.py.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

from tests.reimplementation.derived_v1 import applied, double, norm
from tests.reimplementation.orthogonal_v1 import haar
from tests.reimplementation.samples_v1 import (
    Sampler,
    Words,
    encode,
    f32,
    item_size,
    normal,
    truncated,
    uniform,
)

Data = dict[str, Any]
Index = tuple[int, ...]
Rule = Callable[[int, Index], bytes]  # an element's bytes from its index and its coordinates

# -- section 8: schemes --

FANS = {"layout": "torch", "batch_axes": []}
KAIMING = {"a": 0.0, "mode": "fan_in", "nonlinearity": "leaky_relu", **FANS}
SCALING = {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"}
DEFAULTS: dict[str, Data] = {
    "uniform": {"a": 0.0, "b": 1.0},
    "normal": {"mean": 0.0, "std": 1.0},
    "trunc_normal": {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0, "relative": False},
    "constant": {},
    "ones": {},
    "zeros": {},
    "eye": {},
    "identity": {"gain": 1.0},
    "dirac": {"groups": 1.0},
    "xavier_uniform": {"gain": 1.0, **FANS},
    "xavier_normal": {"gain": 1.0, **FANS},
    "kaiming_uniform": KAIMING,
    "kaiming_normal": KAIMING,
    "variance_scaling": {**SCALING, **FANS},
    "sparse": {"std": 0.01},
    "orthogonal": {"gain": 1.0},
    "delta_orthogonal": {"gain": 1.0, "layout": "torch"},
    "concatenate": {"axis": 0},
    "stack": {"axis": 0},
    "permute": {},
    "reshape": {},
    "hadamard": {"gain": 1.0},
    "literal": {},
    "broadcast_to": {},
    "apply": {"a": None, "b": None},
    "norm": {"axes": []},
}
NAMED_SCALING: dict[str, Data] = {  # the arguments of variance_scaling that these names stand for
    f"{family}_{suffix}": {"scale": scale, "mode": mode, "distribution": distribution}
    for family, scale, mode in (
        ("lecun", 1.0, "fan_in"),
        ("glorot", 1.0, "fan_avg"),
        ("he", 2.0, "fan_in"),
    )
    for suffix, distribution in (("uniform", "uniform"), ("normal", "truncated_normal"))
}
DEFAULTS.update(dict.fromkeys(NAMED_SCALING, FANS))


def arguments_of(tensor: Data) -> Data:
    arguments = {**DEFAULTS[tensor["scheme"]], **tensor.get("arguments", {})}
    dimensions = len(tensor["shape"])  # a norm's part has as many
    for name in ("axis", "axes"):  # section 14: counted from 0
        if name in arguments:
            value = arguments[name]
            arguments[name] = (
                value % dimensions if name == "axis" else [axis % dimensions for axis in value]
            )
    if tensor["scheme"] == "norm":
        arguments["axes"] = sorted(arguments["axes"])
    return arguments


def batch_axes(axes: list[int], dimensions: int) -> list[int]:
    return sorted(axis % dimensions for axis in axes)


def fans(shape: list[int], arguments: Data) -> tuple[float, float]:
    batch = batch_axes(arguments["batch_axes"], len(shape))
    rest = [size for axis, size in enumerate(shape) if axis not in batch]
    if arguments["layout"] == "torch":
        fan_out, fan_in, kernel = rest[0], rest[1], rest[2:]
    else:
        fan_out, fan_in, kernel = rest[-1], rest[-2], rest[:-2]
    return float(fan_in * math.prod(kernel)), float(fan_out * math.prod(kernel))


def gain_of(nonlinearity: str, a: float) -> float:
    gains = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    gains["leaky_relu"] = math.sqrt(2 / (1 + a * a))
    return gains.get(nonlinearity, 1.0)


def variance_scaling(
    fan_in: float, fan_out: float, scale: float, mode: str, distribution: str
) -> Sampler:
    n = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    variance = scale / n
    if distribution == "normal":
        return normal(0.0, math.sqrt(variance))
    if distribution == "uniform":
        bound = math.sqrt(3 * variance)
        return uniform(-bound, bound)
    return truncated(0.0, math.sqrt(variance) / 0.87962566103423978, -2.0, 2.0, True)


def sampler(scheme: str, shape: list[int], arguments: Data) -> Sampler | None:
    """The schemes whose elements are each a function of one word."""
    if scheme == "uniform":
        return uniform(arguments["a"], arguments["b"])
    if scheme in ("normal", "sparse"):
        return normal(arguments.get("mean", 0.0), arguments["std"])
    if scheme == "trunc_normal":
        return truncated(**arguments)
    if "layout" not in arguments or scheme == "delta_orthogonal":
        return None
    fan_in, fan_out = fans(shape, arguments)
    if scheme in NAMED_SCALING:
        return variance_scaling(fan_in, fan_out, **NAMED_SCALING[scheme])
    if scheme == "variance_scaling":
        return variance_scaling(fan_in, fan_out, **{name: arguments[name] for name in SCALING})
    if scheme.startswith("xavier"):
        spread = arguments["gain"] * math.sqrt(2 / (fan_in + fan_out))
    else:
        fan = fan_in if arguments["mode"] == "fan_in" else fan_out
        spread = gain_of(arguments["nonlinearity"], arguments["a"]) / math.sqrt(fan)
    if scheme.endswith("normal"):
        return normal(0.0, spread)
    bound = math.sqrt(3) * spread
    return uniform(-bound, bound)


def sparse_zeros(shape: list[int], sparsity: float, mask: Words) -> set[Index]:
    """Section 9."""
    rows, columns = shape
    count = math.ceil(sparsity * rows)
    zeros: set[Index] = set()
    for c in range(columns):
        order = sorted(range(rows), key=lambda r: mask[r * columns + c] * 2**32 + r)
        zeros.update((r, c) for r in order[:count])
    return zeros


def orthogonal(rows: int, columns: int, gain: float, value: Words) -> list[list[float]]:
    """Section 10: the matrix of f32 values, rows x columns."""
    m, n = max(rows, columns), min(rows, columns)
    x = [[normal(0.0, 1.0)(value[j * m + i]) for i in range(m)] for j in range(n)]
    q = haar(x, m, n)
    if rows < columns:
        q = [list(row) for row in zip(*q, strict=True)]
    gain += 0.0  # -0 counts as 0
    return [[f32(gain * element) for element in row] for row in q]


def seed_and_stream(tensor: Data, plan_seed: int) -> tuple[int, str]:
    seed: int = tensor.get("seed", plan_seed)
    stream = str(tensor.get("stream", tensor["name"]))
    return seed, stream


def rule(tensor: Data, plan_seed: int) -> Rule:
    """Section 14 first: zero rows, and parts. Without elements there is nothing to draw from."""
    if 0 in tensor["shape"]:
        return lambda i, at: b""
    rows = tensor.get("zero_rows", [])
    element = composed(tensor, plan_seed) if "parts" in tensor else drawn(tensor, plan_seed)
    if not rows:
        return element
    zero = bytes(item_size(tensor["dtype"]))
    return lambda i, at: zero if at[0] in rows else element(i, at)


def widened(tensor: Data) -> Data:
    """Section 15: the tensor and its parts, as F64."""
    wide = {**tensor, "dtype": "F64"}
    if "parts" in tensor:
        wide["parts"] = [widened(part) for part in tensor["parts"]]
    return wide


def of_function(tensor: Data, plan_seed: int) -> Rule:
    """Section 15."""
    arguments, dtype = arguments_of(tensor), tensor["dtype"]
    numbers = arguments["function"], arguments["a"], arguments["b"]
    element = rule(widened(tensor["parts"][0]), tensor.get("seed", plan_seed))

    def value(i: int, at: Index) -> bytes:
        function, a, b = numbers
        return encode(applied(function, double(element(i, at), "F64"), a, b), dtype)

    return value


def of_norm(tensor: Data, plan_seed: int) -> Rule:
    """Section 15."""
    part, dtype = tensor["parts"][0], tensor["dtype"]
    kept = arguments_of(tensor)["axes"]
    element = rule(part, tensor.get("seed", plan_seed))

    def value(_i: int, at: Index) -> bytes:
        ranges = [
            range(at[axis], at[axis] + 1) if axis in kept else range(size)
            for axis, size in enumerate(part["shape"])
        ]
        values = []
        for place in itertools.product(*ranges):
            index = 0
            for size, coordinate in zip(part["shape"], place, strict=True):
                index = index * size + coordinate
            values.append(double(element(index, place), dtype))
        return encode(norm(values), dtype)

    return value


def composed(tensor: Data, plan_seed: int) -> Rule:
    """Section 14: an element of a part for each element."""
    scheme, parts = tensor["scheme"], tensor["parts"]
    if scheme == "apply":
        return of_function(tensor, plan_seed)
    if scheme == "norm":
        return of_norm(tensor, plan_seed)
    arguments = arguments_of(tensor)
    shapes = [part["shape"] for part in parts]
    rules = [
        rule(part, tensor.get("seed", plan_seed)) if 0 not in part["shape"] else None
        for part in parts
    ]

    def element(n: int, at: Index) -> bytes:
        index = 0
        for size, coordinate in zip(shapes[n], at, strict=True):
            index = index * size + coordinate
        chosen = rules[n]
        assert chosen
        return chosen(index, at)

    if scheme == "reshape":

        def reshaped(i: int, _at: Index) -> bytes:
            coordinates = []
            for size in reversed(shapes[0]):
                i, coordinate = divmod(i, size)
                coordinates.append(coordinate)
            return element(0, tuple(reversed(coordinates)))

        return reshaped
    if scheme == "broadcast_to":
        inner = shapes[0]

        def narrow(at: Index) -> Index:
            last = at[len(at) - len(inner) :]
            return tuple(0 if size == 1 else x for x, size in zip(last, inner, strict=True))

        return lambda _i, at: element(0, narrow(at))
    if scheme == "permute":
        axes = arguments["axes"]
        return lambda _i, at: element(0, tuple(at[axes.index(a)] for a in range(len(axes))))
    axis = arguments["axis"]
    if scheme == "stack":
        return lambda _i, at: element(at[axis], at[:axis] + at[axis + 1 :])

    def joined(_i: int, at: Index) -> bytes:
        n, position = 0, at[axis]
        while position >= shapes[n][axis]:
            position -= shapes[n][axis]
            n += 1
        return element(n, (*at[:axis], position, *at[axis + 1 :]))

    return joined


def drawn(tensor: Data, plan_seed: int) -> Rule:
    shape, dtype, scheme = list(tensor["shape"]), tensor["dtype"], tensor["scheme"]
    arguments = arguments_of(tensor)
    seed, stream = seed_and_stream(tensor, plan_seed)
    value = Words("value", seed, stream)
    zero = encode(0.0, dtype)

    sample = sampler(scheme, shape, arguments)
    if sample and scheme == "sparse":
        zeros = sparse_zeros(shape, arguments["sparsity"], Words("mask", seed, stream))
        return lambda i, at: zero if at in zeros else encode(sample(value[i]), dtype)
    if sample:
        return lambda i, _at: encode(sample(value[i]), dtype)

    if scheme in ("constant", "ones", "zeros"):
        number = arguments["val"] if scheme == "constant" else float(scheme == "ones")
        constant = encode(number, dtype)
        return lambda _i, _at: constant
    if scheme in ("eye", "identity"):
        diagonal = encode(arguments.get("gain", 1.0), dtype)
        return lambda _i, at: diagonal if at[0] == at[1] else zero
    if scheme == "dirac":
        one, n = encode(1.0, dtype), shape[0] // int(arguments["groups"])
        centre = tuple(size // 2 for size in shape[2:])
        # Row o = g * n + d, and column d < min(n, in) by itself.
        return lambda _i, at: one if at[1] == at[0] % n and at[2:] == centre else zero
    if scheme == "orthogonal":
        columns = math.prod(shape[1:])
        matrix = orthogonal(shape[0], columns, arguments["gain"], value)
        return lambda i, _at: encode(matrix[i // columns][i % columns], dtype)
    if scheme == "delta_orthogonal":
        if arguments["layout"] == "torch":
            out, into, kernel = 0, 1, slice(2, None)
        else:
            out, into, kernel = -1, -2, slice(None, -2)
        matrix = orthogonal(shape[out], shape[into], arguments["gain"], value)
        centre = tuple((size - 1) // 2 for size in shape[kernel])
        return lambda _i, at: (
            encode(matrix[at[out]][at[into]], dtype) if at[kernel] == centre else zero
        )
    if scheme == "literal":
        elements = [encode(number, dtype) for number in arguments["values"]]
        return lambda i, _at: elements[i]
    if scheme == "hadamard":
        return hadamard(shape, dtype, arguments["gain"])
    raise ValueError(scheme)


def hadamard(shape: list[int], dtype: str, gain: float) -> Rule:
    """Section 14."""
    zero, m = encode(0.0, dtype), 0
    centre = tuple(size // 2 for size in shape[2:])
    while 2**m < shape[0]:
        m += 1
    c = gain * (math.ldexp(1.0, -(m // 2)) / (math.sqrt(2) if m % 2 else 1))

    def element(_i: int, at: Index) -> bytes:
        if at[2:] != centre:
            return zero
        if shape[0] <= shape[1]:
            return encode(gain, dtype) if at[0] == at[1] else zero
        return encode(-c if bin(at[0] & at[1]).count("1") % 2 else c, dtype)

    return element
